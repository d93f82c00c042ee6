"""NumPy's BLAS: held to one thread while threads of our own compute, and what is known of its kernels.

OpenBLAS has one number of threads for the whole process.  We set it through OpenBLAS's own functions, in the library
that NumPy is linked to, so nobody else's idea of who may set it (threadpoolctl gives it to one thread) is in the way.
Builds of OpenBLAS on OpenMP have one number for each thread instead.  Any other BLAS is left to threadpoolctl, if that
is installed.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

OPENMP = 2  # what openblas_get_parallel answers in a build on OpenMP


class Blas(NamedTuple):
    """The library that NumPy multiplies with."""

    get_num_threads: Callable[[], int]
    set_num_threads: Callable[[int], object]
    per_thread: bool  # whether the number holds for the calling thread only
    core: str  # the processor that its kernels are written for, as OpenBLAS calls it: "Haswell"; "" if not known


@cache
def numpys_blas() -> Blas | None:
    """NumPy's BLAS, or None where its threads cannot be set."""
    for library in _libraries():
        for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            if hasattr(library, f"{prefix}openblas_set_num_threads{suffix}"):
                return _openblas(library, prefix, suffix)
    return _known_to_threadpoolctl()


def _libraries() -> Iterator[ctypes.CDLL]:
    """NumPy's extension module, through which all that it is linked to is seen; on Windows the library itself."""
    package = Path(np.__file__).parent
    core = getattr(np, "_core", None) or np.core  # `_core` since NumPy 2
    paths = [core._multiarray_umath.__file__, *package.parent.glob("numpy.libs/*openblas*.dll")]
    for path in paths:
        try:
            yield ctypes.CDLL(str(path))
        except OSError:
            continue


def _openblas(library: ctypes.CDLL, prefix: str, suffix: str) -> Blas:
    def function(name: str) -> Any:
        return getattr(library, f"{prefix}openblas_{name}{suffix}")

    corename = function("get_corename")
    corename.restype = ctypes.c_char_p
    core = corename().decode()
    if function("get_parallel")() == OPENMP:
        return Blas(library.omp_get_max_threads, library.omp_set_num_threads, True, core)
    return Blas(function("get_num_threads"), function("set_num_threads"), False, core)


def _known_to_threadpoolctl() -> Blas | None:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    if not libraries:
        return None

    def set_num_threads(number: int) -> None:
        for library in libraries:
            library.set_num_threads(number)

    return Blas(lambda: max(library.num_threads for library in libraries), set_num_threads, False, "")


def can_be_held() -> bool:
    """Whether `one_blas_thread` has an effect."""
    return numpys_blas() is not None


def claim_thread() -> None:
    """Hold BLAS to one thread in a thread of ours, for good, where it has a number of threads for each thread."""
    blas = numpys_blas()
    if blas and blas.per_thread:
        blas.set_num_threads(1)


def touch_workspace(dtype: DTypeLike) -> None:
    """Write to the memory in which BLAS packs operands, for the calling thread's products to come.

    OpenBLAS's kernels prefetch beyond what they have packed.  With few columns they pack little, and as long as nothing
    has written to the pages behind it, each prefetch walks the page tables for nothing: on Zen 1, in a virtual machine,
    float32 products of 64 columns then run at 20 GFLOPS instead of 38, of 256 columns at 13 instead of 41.  This
    product, of 1 ms and 0.4 MB, is of the least size that helps.
    """
    np.matmul(np.ones((64, 384), dtype), np.ones((384, 400), dtype))


@cache
def small_products() -> int:
    """rows × inner × columns up to which BLAS reads the operands of a float32 product where they lie.

    OpenBLAS does on processors with AVX-512 (`interface/gemm.c`, `sgemm_small_matrix_permit`); 0: it never does, or
    nothing is known of it.
    """
    blas = numpys_blas()
    return 1_000_000 if blas and blas.core in ("SkylakeX", "Cooperlake", "SapphireRapids") else 0


class one_blas_thread:
    """Holds BLAS to one thread inside a `with` block; the last of several such blocks gives it its own number back.

    The block may be left in any way.  A KeyboardInterrupt can come between any two steps of Python, also while this
    object is being entered or left: then it is garbage, and deleting it does what leaving would have done.
    """

    _entered = False

    def __enter__(self) -> None:
        blas = numpys_blas()
        if blas is None:
            return
        self._entered = True
        if blas.per_thread:
            self._before = blas.get_num_threads()
            blas.set_num_threads(1)
            return
        with _lock:
            _holders.add(self)
            _settle(blas)

    def __exit__(self, *raised: object) -> None:
        blas = numpys_blas()
        if blas is None or not self._entered:
            return
        if blas.per_thread:
            blas.set_num_threads(self._before)
        else:
            with _lock:
                _holders.discard(self)
                _settle(blas)
        self._entered = False

    def __del__(self) -> None:
        self.__exit__()


_lock = threading.RLock()  # an R: garbage may be collected, and so __del__ run, while this thread has the lock
_holders: weakref.WeakSet[one_blas_thread] = weakref.WeakSet()
_own_number: int | None = None  # BLAS's own number of threads, while it is held to one


def _settle(blas: Blas) -> None:
    """Set the number of threads as `_holders` asks for; called again, it finishes what an interrupt cut short."""
    global _own_number
    if _holders:
        if _own_number is None:
            _own_number = blas.get_num_threads()
        blas.set_num_threads(1)
    elif _own_number is not None:
        blas.set_num_threads(_own_number)
        _own_number = None


def _after_fork() -> None:
    """A forked child has none of the threads that held BLAS, and perhaps a lock that one of them had."""
    global _lock
    _lock = threading.RLock()
    _holders.clear()
    blas = numpys_blas()
    if blas is not None and not blas.per_thread:
        _settle(blas)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
