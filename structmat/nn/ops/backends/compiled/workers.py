"""Threads that run compiled functions in parallel, and the scratch memory of each thread.

A job is a function that claims parts of the work until none are left, so a late call returns at
once. The calling thread works too, and does not wait for workers that have not started, so a core
that is busy with another program does not delay a job.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

Job = Callable[[], None]


def _nothing() -> None:
    pass


class _Task:
    """A job, with the number of workers that are running it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._running = 0
        self._closed = False
        self._idle = threading.Event()
        self.error: BaseException | None = None

    def work(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._running += 1
            job = self.job
        try:
            job()
        except BaseException as error:
            self.error = error
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._idle.set()

    def finish(self) -> None:
        """Let no more workers start, and wait for those that are running."""
        with self._lock:
            self._closed = True
            self.job = _nothing  # the task may remain queued, and must not keep tensors alive
            if not self._running:
                return
            self._idle.clear()
        self._idle.wait()


class _Pool:
    def __init__(self) -> None:
        self.tasks: SimpleQueue[_Task] = SimpleQueue()
        self.threads = 0
        self.lock = threading.Lock()

    def grow(self, count: int) -> None:
        with self.lock:
            while self.threads < count:
                try:
                    threading.Thread(target=self._serve, name="structmat", daemon=True).start()
                except RuntimeError:  # too many threads, or the interpreter is shutting down
                    return
                self.threads += 1

    def _serve(self) -> None:
        while True:
            self.tasks.get().work()


_pool = _Pool()


# Held while llvmlite is imported or used, and while the process is forked: otherwise, the child
# might inherit held locks of llvmlite or of the import system, with no thread to release them.
LLVM = threading.RLock()


def _renew() -> None:
    """Replace the pool in a forked process, which does not inherit its threads."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
    os.register_at_fork(
        before=LLVM.acquire, after_in_parent=LLVM.release, after_in_child=LLVM.release
    )


def run(job: Job, threads: int) -> None:
    """Run a job in the calling thread and concurrently in up to `threads` − 1 workers."""
    if threads <= 1:
        job()
        return
    pool = _pool
    pool.grow(threads - 1)
    task = _Task(job)
    for _ in range(threads - 1):
        pool.tasks.put(task)
    try:
        job()
    finally:
        task.finish()
    if task.error is not None:
        raise task.error


_local = threading.local()


_ALIGNMENT = 64  # bytes
_KEPT = 1 << 25  # maximum number of bytes of scratch memory that a thread keeps


def scratch(size: int) -> npt.NDArray[np.uint8]:
    """Return at least `size` bytes, after alignment, for the calling thread.

    The caller must hold a reference for as long as it uses the memory: a signal handler may need
    more memory, which then replaces the memory that the thread keeps.
    """
    own: npt.NDArray[np.uint8] | None = getattr(_local, "memory", None)
    if own is None or len(own) < size + _ALIGNMENT:
        own = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
        if size <= _KEPT:
            _local.memory = own
    return own


def aligned(memory: npt.NDArray[np.uint8]) -> int:
    """Return the first address in an array that is a multiple of 64."""
    return -(-int(memory.ctypes.data) // _ALIGNMENT) * _ALIGNMENT


_zeros: list[npt.NDArray[np.uint8]] = [np.zeros(1 << 16, dtype=np.uint8)]  # the last one is used


def zeros(size: int) -> int:
    """Return the address of at least `size` zero bytes, which are never freed."""
    own = _zeros[-1]
    if len(own) < size:
        own = np.zeros(2 * size, dtype=np.uint8)
        _zeros.append(own)  # another thread may append a smaller array concurrently
    return int(own.ctypes.data)
