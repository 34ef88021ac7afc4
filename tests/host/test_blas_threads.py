"""The number of threads of a preloaded OpenBLAS can be changed, where that is safe."""

import json
import subprocess
import sys

import pytest

from host.blas import BlasReport, BlasState
from host.blas_threads import setter

PROBE = """
import ctypes, json
from host import blas
from host.blas_threads import setter
report = blas.preload()
change = setter(report)
seen = []
if change is not None:
    library = ctypes.CDLL(report.library)
    for count in (1, 2, 1):
        change(count)
        seen.append(library.openblas_get_num_threads())
print(json.dumps([report.state, report.build, seen]))
"""


@pytest.mark.parametrize(
    "report",
    [
        BlasReport(BlasState.ABSENT),
        BlasReport(BlasState.NOT_NEEDED),
        BlasReport(BlasState.PRELOADED, "libopenblas.so.0", threads=1),
        BlasReport(BlasState.PRELOADED, "libblas.so.3", threads=None),
    ],
)
def test_without_a_library_that_has_threads_there_is_nothing_to_set(report: BlasReport) -> None:
    assert setter(report) is None


def test_a_real_library_takes_the_number_that_it_is_given() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        env={"OPENBLAS_NUM_THREADS": "2"},
    )
    state, build, seen = json.loads(run.stdout)
    if not seen:
        pytest.skip(f"no OpenBLAS with threads of its own here: {state} {build}")
    assert seen == [1, 2, 1]
