"""How fast the disk of the stores is read."""

import os
import time
from pathlib import Path

BYTES = 64 << 20


def read_rate(folder: Path) -> float:
    """Bytes a second of what lies on the disk of `folder` and not in memory."""
    path, block = folder / "disk", os.urandom(1 << 20)
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        for _ in range(BYTES // len(block)):
            os.write(fd, block)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(fd, 0, os.SEEK_SET)
        began = time.perf_counter()
        while os.read(fd, len(block)):
            pass
        return BYTES / (time.perf_counter() - began)
    finally:
        os.close(fd)
        path.unlink()
