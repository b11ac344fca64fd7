"""Where the arithmetic runs: device and threads, from the `runtime` section; and how memory is asked for."""

import ctypes
import platform

import torch

from usae.common.errors import UserError
from usae.common.params import RuntimeParams
from usae.common.runtime.compiler import postpone_compiler

# <malloc.h>: give freed memory back only beyond so many bytes; get what is larger than the other from the kernel
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, LARGEST = 2**31 - 1, 2**25  # glibc takes no more than 32 MiB for the second


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
