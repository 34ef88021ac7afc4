"""Tries MLX in a process of its own, so that one that crashes takes nobody along: `python -m host.probe`."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata

import msgspec

from host.blas import preload

ROWS, SIDE = 128, 2048
"""Of the f32 matrix product that is timed: a prompt's slice against a middling layer."""

VECTOR_ROWS, VECTOR_SIDE = 8192, 4096
"""Of the f32 matrix that is read for a vector, as in decoding: 128 MiB, more than caches hold."""


class Trial(msgspec.Struct, frozen=True):
    """What MLX said of itself, and how fast it multiplied."""

    version: str
    backend: str
    """`metal`, `cuda` or `cpu`."""
    device: str
    blas: str
    """A BlasState."""
    blas_build: str
    blas_note: str
    threads: int | None
    gigaflops: float
    """10^9 operations per second in an f32 matrix product."""
    bandwidth_gb_s: float = 0.0
    """10^9 bytes of a matrix that are read per second in a product with a vector."""


def try_mlx(environment: Mapping[str, str], timeout_s: float = 60.0) -> Trial | str:
    """The trial of an MLX in a new process, or why there is none."""
    command = [sys.executable, "-m", "host.probe"]
    try:
        done = subprocess.run(
            command, capture_output=True, env=dict(environment), timeout=timeout_s, check=True
        )
        return msgspec.json.decode(done.stdout, type=Trial)
    except subprocess.TimeoutExpired:
        return f"it did not answer within {timeout_s:g} s"
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()
        return words[-1] if words else f"the process ended with {error.returncode}"
    except msgspec.DecodeError as error:
        return f"it answered nonsense ({error})"


def main() -> None:
    """Print the trial of this process's MLX as JSON."""
    report = preload()
    import mlx.core as mx  # only now: a BLAS has to be there first

    device = mx.default_device()
    backend = "cpu" if device.type == mx.cpu else ("metal" if mx.metal.is_available() else "cuda")
    name = mx.device_info().get("device_name", str(device))
    trial = Trial(
        version=metadata.version("mlx"),
        backend=backend,
        device=str(name),
        blas=report.state,
        blas_build=report.build,
        blas_note=report.note,
        threads=report.threads,
        gigaflops=_gigaflops(),
        bandwidth_gb_s=_bandwidth_gb_s(),
    )
    print(json.dumps(msgspec.to_builtins(trial)))


def _gigaflops() -> float:
    """The better of two timed products, after one that is not timed."""
    import mlx.core as mx

    rows, weights = mx.random.normal((ROWS, SIDE)), mx.random.normal((SIDE, SIDE))
    mx.eval(rows, weights, rows[:8] @ weights)
    return 2 * ROWS * SIDE * SIDE / _best_of(2, lambda: mx.eval(rows @ weights)) / 1e9


def _bandwidth_gb_s() -> float:
    """The best of three timed products with a vector, after one that is not timed."""
    import mlx.core as mx

    weights, vector = mx.ones((VECTOR_ROWS, VECTOR_SIDE)), mx.ones((VECTOR_SIDE,))
    mx.eval(weights, vector, weights @ vector)
    return weights.nbytes / _best_of(3, lambda: mx.eval(weights @ vector)) / 1e9


def _best_of(times: int, compute: Callable[[], None]) -> float:
    """Seconds that the quickest of so many takes."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
