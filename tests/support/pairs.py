"""Two processes that train together, forked: each has the environment that torchrun would give it.

For scripts of their own: a process that has computed must not fork.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.context import ForkProcess as Process
from typing import Any

import torch
import torch._dynamo  # an optimiser loads it late: here once, not in both

from usae.common.runtime.ranks import join_processes


def _member(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    join_processes(torch.device("cpu"))
    work(*arguments)


def pair(work: Callable[..., None], *arguments: object) -> list[Process]:
    """Both of them, started on the same work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_member, args=(rank, port, work, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def codes(processes: list[Process]) -> list[int | None]:
    """How they ended; one that waits forever is killed, and has none."""
    for process in processes:
        process.join(60)
    found = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return found
