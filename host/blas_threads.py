"""How many threads a preloaded OpenBLAS computes with, changed while it runs."""

import ctypes
from collections.abc import Callable
from typing import TypeAlias

from host.blas import BlasReport, BlasState

SetThreads: TypeAlias = Callable[[int], object]

PTHREADS = 1
"""What `openblas_get_parallel` says of a build with threads of its own (2: OpenMP, 0: none)."""


def setter(report: BlasReport) -> SetThreads | None:
    """Sets the number of threads of the library that was preloaded; None where that can't be done.

    A build with threads of its own reads the number at the start of each product, so that it may change
    between any two, whichever thread computes. OpenMP builds move buffers about then, and are left alone.
    """
    if report.state is not BlasState.PRELOADED or not report.threads or report.threads < 2:
        return None
    library = ctypes.CDLL(report.library)
    if not hasattr(library, "openblas_get_parallel") or library.openblas_get_parallel() != PTHREADS:
        return None
    set_threads: SetThreads = library.openblas_set_num_threads
    return set_threads
