"""Device, threads, and memory that is used again."""

import platform
import resource
import subprocess
import sys

import pytest
import torch

from usae.common.errors import UserError
from usae.common.params import RuntimeParams, load_params
from usae.common.runtime.device import configure

FAULTS = """
import resource, torch
from usae.common.runtime.device import keep_freed_memory
torch.set_num_threads(1)
assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks = [torch.ones(4_800_000) for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


LARGE_FAULTS = """
import resource, torch
from usae.common.runtime.device import freed_memory_kept
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept():
    faults()  # the first few blocks find their places
    print(faults())
"""


def runtime(**changes) -> RuntimeParams:
    return load_params().runtime.model_copy(update=changes)


def faults(code: str = FAULTS) -> list[int]:
    command = [sys.executable, "-c", code]
    return [
        int(each) for each in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_freed_memory_is_used_again():
    pages = 20 * 4 * 4_800_000 * 4 / resource.getpagesize()
    assert faults()[0] < 0.3 * pages  # else nearly all of them, on most runs


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_where_it_is_asked_for_large_blocks_are_used_again_too():
    pages = 20 * 20_000_000 * 4 / resource.getpagesize()
    assert faults(LARGE_FAULTS)[0] < 0.1 * pages


def test_the_device_is_there_with_the_threads_asked_for(request):
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    assert configure(runtime(device="cpu", threads=threads + 1)) == torch.device("cpu")
    assert torch.get_num_threads() == threads + 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said():
    with pytest.raises(UserError, match=r"`runtime\.device` is 'cuda', but torch \S+ sees no GPU here; set"):
        configure(runtime(device="cuda"))
