"""Memory that is free, and how many processes have room in it."""

import logging
import os
from pathlib import Path

from usae.common.files.whole import size_text

MEMINFO = Path("/proc/meminfo")  # of Linux

log = logging.getLogger("usae")


def free_memory() -> int:
    """Bytes that processes may still take; on Linux also those in which it keeps files that it can read anew."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if not MEMINFO.exists():
        return free
    lines = MEMINFO.read_text(encoding="ascii").splitlines()
    return max([free, *(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))])


def with_room(most: int, each: int) -> int:
    """How many of `most` processes have room for `each` bytes; one at least."""
    free = free_memory()
    room = max(1, min(most, free // max(1, each)))
    if room < most:
        log.info("%d at once in place of %d: %s each, %s free", room, most, size_text(each), size_text(free))
    return room
