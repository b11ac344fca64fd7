"""Where the arithmetic runs: device and threads, from the `runtime` section; and how memory is asked for."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from usae.common.errors import UserError
from usae.common.params import RuntimeParams
from usae.common.runtime.compiler import postpone_compiler

# <malloc.h>: give freed memory back only beyond so many bytes; get what is larger than the other from the kernel
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
KEPT, LARGEST = 2**31 - 1, 2**25  # glibc takes no more than 32 MiB for the second
BLOCKS = 65_536  # at once, that may be got from the kernel where they are larger: glibc's own number


def configure(runtime: RuntimeParams) -> torch.device:
    """Set torch's threads, keep freed memory, and return the device to use (`auto`: the GPU where there is one).

    Raises:
        UserError: the device is not there.
    """
    keep_freed_memory()
    postpone_compiler()
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if runtime.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"`runtime.device` is '{runtime.device}', but torch {torch.__version__} sees no GPU here; "
            "set `runtime.device: auto` or cpu."
        )
    return torch.device(runtime.device)


def keep_freed_memory() -> bool:
    """Use freed blocks of up to 32 MiB again instead of fresh pages, which cost more to get than a pass over them.

    Only glibc is told; elsewhere nothing happens, and the answer is False.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_TRIM_THRESHOLD, KEPT) and libc.mallopt(M_MMAP_THRESHOLD, LARGEST))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, so of blocks of any size, such as the maps that a network makes of each batch; then they are given
    back.
    """
    libc = ctypes.CDLL(None) if keep_freed_memory() else None
    if libc is not None:
        libc.mallopt(M_MMAP_MAX, 0)
    try:
        yield
    finally:
        if libc is not None:
            libc.mallopt(M_MMAP_MAX, BLOCKS)
            libc.malloc_trim(0)
