"""What a process takes of the device's memory, and how it gives back what only its start needed."""

from __future__ import annotations

import ctypes
import gc
import mmap
from collections.abc import Iterator


def pss_bytes(pid: int | None = None) -> int:
    """Proportional set size of a process (this one by default); 0 where the kernel does not tell."""
    return _rollup(pid, b"Pss:")


def rss_bytes(pid: int | None = None) -> int:
    """Resident set size of a process (this one by default); 0 where the kernel does not tell."""
    return _rollup(pid, b"Rss:")


def _rollup(pid: int | None, key: bytes) -> int:
    try:
        with open(f"/proc/{pid or 'self'}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(key):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def give_back() -> None:
    """Return freed heap and the pages of program code that are mapped but may never run again.

    Loading a runtime library touches megabytes of its code once. Code pages that were never written come from the file
    again when they are needed, so dropping them is safe; pages that were written to are left alone.
    """
    gc.collect()
    gc.freeze()  # what is there now stays: later collections need not look at it
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in list(_clean_code()):
        libc.madvise(start, end - start, mmap.MADV_DONTNEED)


def _clean_code() -> Iterator[tuple[int, int]]:
    """Private, executable, unwritten mappings of files, as (start, end)."""
    try:
        with open("/proc/self/smaps", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    start = end = 0
    for line in lines:
        words = line.split()
        if not words[0].endswith(b":"):
            code = words[1] == b"r-xp" and len(words) > 5 and words[5].startswith(b"/")
            start, end = (int(part, 16) for part in words[0].split(b"-")) if code else (0, 0)
        elif words[0] == b"Anonymous:" and words[1] == b"0" and end:
            yield start, end
