"""Independent tasks on the worker processes that `runtime.dask` names (stages `extract`, `contrast`, `measure`).

`local:N` starts N worker processes of one thread each on this machine; an address or a scheduler file connects
to a cluster that is already there. Functions are sent by name, with paths and numbers; a task whose worker dies
runs again on another one.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from usae.common.errors import UserError
from usae.common.params import RuntimeParams

if TYPE_CHECKING:  # loaded where it is used: few runs have a cluster, and every stage that could would wait for it
    from distributed import Client, Future, LocalCluster

RETRIES = 3  # times that a task which failed for another reason than a `UserError` is tried again
AHEAD = 3  # tasks in hand for each thread of the workers, where results are wanted in order
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
    from distributed import as_completed

    futures = client.map(function, tasks, pure=False, retries=RETRIES)
    task_of = dict(zip((future.key for future in futures), tasks, strict=True))
    for future in as_completed(futures):
        yield task_of[future.key], _result(future)


@dataclass(frozen=True)
class Workers:
    """Processes to which tasks are given; without a client there are none, and this process computes."""

    client: "Client | None" = None

    def in_order(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """The result of every task, in the order of the tasks; only a few at a time are in hand.

        Raises:
            UserError: as `compute` does.
        """
        if self.client is None:
            yield from map(function, tasks)
            return
        most, asked = AHEAD * sum(self.client.nthreads().values()), deque["Future[R]"]()
        for task in tasks:
            if len(asked) >= most:
                yield _result(asked.popleft())
            asked.append(self.client.submit(function, task, pure=False, retries=RETRIES))
        while asked:
            yield _result(asked.popleft())


HERE = Workers()


@contextmanager
def workers(where: str | None) -> Iterator[Workers]:
    """The workers that `where` names; None: this process.

    Raises:
        UserError: as `connect` does.
    """
    if where is None:
        yield HERE
        return
    with connect(where) as client:
        yield Workers(client)


def _result(future: "Future[R]") -> R:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise UserError(
            f"Several workers died one after another on the same task ({error}); they may lack memory. "
            "Look into their logs; fewer workers need less, and so does a smaller `runtime.batch_images` in "
            "extraction or fewer `measure.permutations` in measuring."
        ) from error


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
