"""The processes that candidates are built in by default: a pool that ends with its block, at once on Ctrl-C."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor


def workers(count: int | None = None) -> int:
    """How many processes: `count`, by default one a processor, at most eight, since each may hold a framework."""
    return count or min(os.cpu_count() or 1, 8)


@contextlib.contextmanager
def processes(count: int | None = None) -> Iterator[Executor]:
    """A pool of processes.

    They are started afresh (a fork would copy the threads of progress bars), and leave Ctrl-C to their parent, which
    ends them; a framework's child dies with the process that started it (`targets.child`).

    Args:
        count: how many; see `workers`.
    """
    pool = ProcessPoolExecutor(workers(count), multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        yield pool
    except BaseException:
        running = list(getattr(pool, "_processes", {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in running:
            worker.kill()
        raise
    pool.shutdown()


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
