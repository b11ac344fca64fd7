"""What something takes: seconds, seconds of the CPU, bytes on the disk."""

import resource
import time
from typing import NamedTuple

import numpy as np
import torch

from usae.common.types import Array


class Cost(NamedTuple):
    """wall, cpu: seconds, the second of all processors together. disk: bytes that stay."""

    wall: float
    cpu: float
    disk: float = 0.0


def clocks() -> Array:
    """Seconds of wall time, and those of the CPU in this process and in those that it started and that ended."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in used)])


def took(before: Array, disk: float = 0.0) -> Cost:
    """The cost since `clocks()` said `before`."""
    wall, cpu = clocks() - before
    return Cost(float(wall), float(cpu), disk)
