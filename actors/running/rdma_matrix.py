"""Which RDMA device of each rank leads to which other rank: what MLX's jaccl is configured with. Pure."""

from collections.abc import Sequence
from typing import TypeAlias

Matrix: TypeAlias = tuple[tuple[str, ...], ...]
"""Row and column in rank order; a rank has no device to itself."""


def device_matrix(devices: Sequence[Sequence[str]]) -> Matrix | str:
    """From each rank's active devices, in rank order; a string says why there is no matrix.

    Between two ranks there is one cable, so the first active device of each leads to the other. With more,
    which device leads to which rank is not known: nothing tells which cable is in which port.
    """
    for rank, names in enumerate(devices):
        if not names:
            return f"rank {rank} has no active RDMA device: check its cable, and `ibv_devinfo` there"
    match devices:
        case (first, second):
            return (("", first[0]), (second[0], ""))
        case _:
            return f"jaccl over {len(devices)} ranks is not possible yet: use ring, or 2 ranks"
