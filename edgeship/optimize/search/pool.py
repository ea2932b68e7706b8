"""The processes that candidates are built in by default: a pool that ends with its block, at once on Ctrl-C."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import connection
from typing import ParamSpec, TypeVar

from edgeship import child, scratch
from edgeship.errors import ConversionError

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_SECONDS = 5.0  # that the end of killed processes may take

P = ParamSpec("P")
T = TypeVar("T")


def workers(count: int | None = None) -> int:
    """How many processes: `count`, by default one a processor, at most eight, since each may hold a framework."""
    return count or min(os.cpu_count() or 1, 8)


@contextlib.contextmanager
def processes(count: int | None = None) -> Iterator[Executor]:
    """A pool of processes.

    They are started afresh (a fork would copy the threads of progress bars), and leave Ctrl-C to their parent, which
    ends them. They end with their parent however that ends, and so does a framework's child with them
    (`edgeship.child`). Their temporary files are in one folder, which goes with the block.

    Args:
        count: how many; see `workers`.

    Raises:
        ConversionError: one of them was killed from outside.
    """
    with scratch.folder(child.WORK) as folder:
        pool = _Pool(
            workers(count), multiprocessing.get_context("spawn"), initializer=_begin,
            initargs=(str(folder),),
        )  # fmt: skip
        try:
            yield pool
        except BrokenExecutor as error:
            pool.end()
            raise ConversionError(
                "a process that builds candidates was killed, most likely for want of memory",
                hint="fewer --jobs, then the same command again: what is finished is kept",
            ) from error
        except BaseException:
            pool.end()
            raise
        pool.shutdown()


class _Pool(ProcessPoolExecutor):
    """A pool that can be ended at once."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As every executor's; a process that is started by it is not left half started by Ctrl-C."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def end(self) -> None:
        """Kill the processes and give back what the system keeps for them; this end may be skipped by `os._exit`."""
        running = list((getattr(self, "_processes", None) or {}).values())
        for worker in running:
            worker.kill()
        for worker in running:
            worker.join(_SECONDS)
        shutting = threading.Thread(target=self.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        shutting.start()
        shutting.join(_SECONDS)


def _begin(folder: str) -> None:
    """In a new process: its temporary files go to a folder, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    tempfile.tempdir = folder
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End where the parent was killed: nobody tells a process of a pool, and it would wait for work for ever."""
    connection.wait([sentinel])
    os._exit(1)
