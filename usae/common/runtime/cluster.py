"""Independent tasks on the worker processes that `runtime.dask` names (stages `extract`, `measure`).

`local:N` starts N worker processes of one thread each on this machine; an address or a scheduler file connects
to a cluster that is already there. Functions are sent by name, with paths and numbers; a task whose worker dies
runs again on another one.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from usae.common.errors import UserError
from usae.common.params import RuntimeParams

if TYPE_CHECKING:  # loaded where it is used: few runs have a cluster, and every stage that could would wait for it
    from distributed import Client, LocalCluster

RETRIES = 3  # times that a task which failed for another reason than a `UserError` is tried again
PATIENCE = 60  # seconds to wait for a scheduler, and for its first worker
LOCAL = "local:"
ADDRESSES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def connect(where: str) -> Iterator["Client"]:
    """A client of the cluster that `where` names, with at least one worker.

    Raises:
        UserError: `where` names none, or nobody answers there.
    """
    from distributed import Client

    if where.startswith(LOCAL):
        with _local(where) as cluster, Client(cluster) as client:
            yield client
        return
    with _remote(where) as client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise UserError(
                f"The scheduler at '{where}' (`runtime.dask`) has no worker. Start some, one process a GPU, where "
                f"this repository and its data are at the same paths: dask worker {where} --nthreads 1"
            ) from error
        yield client


def compute(client: "Client", function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
    """(task, result) of every task, in the order in which they finish.

    Raises:
        UserError: a task takes down every worker that tries it.
    """
    from distributed import KilledWorker, as_completed

    futures = client.map(function, tasks, pure=False, retries=RETRIES)
    task_of = dict(zip((future.key for future in futures), tasks, strict=True))
    for future in as_completed(futures):
        try:
            result = future.result()
        except KilledWorker as error:
            raise UserError(
                f"Several workers died one after another on the same task ({error}); they may lack memory. "
                "Look into their logs; fewer workers need less, and so does a smaller `runtime.batch_images` in "
                "extraction or fewer `measure.permutations` in measuring."
            ) from error
        yield task_of[future.key], result


def in_order(where: str | None, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
    """The result of every task, in the order of the tasks: here, or on the cluster that `where` names.

    Raises:
        UserError: as `connect` and `compute` do.
    """
    if where is None:
        yield from map(function, tasks)
        return
    with connect(where) as client:
        early: dict[T, R] = {}
        due = deque(tasks)
        for task, result in compute(client, function, tasks):
            early[task] = result
            while due and due[0] in early:
                yield early.pop(due.popleft())


def local_workers(where: str) -> int:
    """N of 'local:N'.

    Raises:
        UserError: it is no such number.
    """
    workers = where.removeprefix(LOCAL)
    if not workers.isdecimal() or int(workers) < 1:
        raise UserError(
            f"`runtime.dask` is '{where}'; expected local:N with at least one worker, such as local:4."
        )
    return int(workers)


def worker_runtime(runtime: RuntimeParams) -> RuntimeParams:
    """`runtime` for one worker process: the cores of this machine divided among local workers."""
    if runtime.threads is not None or runtime.dask is None or not runtime.dask.startswith(LOCAL):
        return runtime
    share = max(1, (os.cpu_count() or 1) // local_workers(runtime.dask))
    return runtime.model_copy(update={"threads": share})


def worker_device(device: torch.device) -> torch.device:
    """One GPU for each local worker process in turn; elsewhere CUDA_VISIBLE_DEVICES decides."""
    from distributed import get_worker

    name = get_worker().name
    if device.type != "cuda" or device.index is not None or not isinstance(name, int):
        return device
    return torch.device("cuda", name % torch.cuda.device_count())


def _local(where: str) -> "LocalCluster":
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=local_workers(where),
        processes=True,
        threads_per_worker=1,
        memory_limit=None,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


def _remote(where: str) -> "Client":
    from distributed import Client

    is_file = not where.startswith(ADDRESSES)
    if is_file and not Path(where).is_file():
        raise UserError(
            f"`runtime.dask` is '{where}', which is no file here ({Path.cwd()}). Expected null (in this process), "
            "local:N (N worker processes), tcp://HOST:PORT, or the path of a file written by "
            "`dask scheduler --scheduler-file PATH`."
        )
    try:
        return Client(scheduler_file=where, timeout=PATIENCE) if is_file else Client(where, timeout=PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(
            f"No dask scheduler answers at '{where}' (`runtime.dask`): {error}. Start one (`dask scheduler`), or "
            "set `runtime.dask: null` to compute in this process."
        ) from error
