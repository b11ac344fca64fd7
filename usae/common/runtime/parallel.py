"""Independent parts of a stage in processes side by side, forked from this one, a core each.

Threads would wait for each other wherever Python itself is at work. A forked process has all that this one has
opened and imports nothing anew; its result alone is sent. Where torch has one thread, on a GPU, and where forking
is not safe (macOS, Windows) the parts are computed here, one after another. The results are the same.
"""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar, cast

import torch
from threadpoolctl import threadpool_limits

from usae.common.errors import UserError
from usae.common.runtime.interrupts import SIGNALS
from usae.common.runtime.memory import with_room
from usae.common.runtime.progress import use_own_lock

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>: the signal that a process gets when the one that started it ends
KILLED = (
    "A process of this stage was ended by signal %d, perhaps for lack of memory. "
    "With `runtime.threads: 1` the stage is one process, which needs less."
)

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(
    function: Callable[[T], R], parts: Iterable[T], device: torch.device, each_bytes: int = 0
) -> Iterator[R]:
    """`function` of every part, in order: on a CPU a process each, as many at once as torch has threads.

    A part is taken when there is a process for it. Nothing may have been differentiated here before: autograd
    refuses to go on in a forked process. each_bytes: memory that a part may need, where that is much; no more
    processes than have room are at work then.

    Raises:
        UserError: as `function` does; or a process was killed.
    """
    if torch.get_num_threads() == 1 or device.type != "cpu" or sys.platform != "linux":
        yield from map(function, parts)
        return
    forks = Forks(with_room(torch.get_num_threads(), each_bytes))
    try:
        for number, part in enumerate(parts):
            forks.start(number, lambda part=part: function(part))  # type: ignore[misc]
            yield from forks.in_order()
        while forks.running:
            forks.collect()
            yield from forks.in_order()
    finally:  # at once, also where one failed, or Ctrl-C came
        forks.kill()


class Forks:
    """Processes at work, at most `most` of them, and what those have sent that are through."""

    def __init__(self, most: int) -> None:
        self.most, self.due = most, 0
        self.running: dict[Connection, tuple[int, ForkProcess]] = {}
        self.results: dict[int, Any] = {}

    def start(self, number: int, task: Callable[[], object]) -> None:
        """Begin one more, as soon as there is room."""
        while len(self.running) == self.most:
            self.collect()
        context = get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(task, sender, os.getpid()))
        process.start()
        sender.close()
        self.running[receiver] = number, process

    def collect(self) -> None:
        """Wait until one is through.

        Raises:
            UserError: it says so, or was killed.
            RuntimeError: it failed; its traceback is on stderr.
        """
        receiver = cast(Connection, wait(list(self.running))[0])
        number, process = self.running[receiver]
        try:
            result = pickle.loads(receiver.recv_bytes())
        except EOFError:
            process.join()
            if (status := process.exitcode or 0) < 0:
                raise UserError(KILLED % -status) from None
            raise RuntimeError("a process of this stage failed; its traceback stands above") from None
        if isinstance(result, UserError):
            raise result
        process.join()
        del self.running[receiver]
        self.results[number] = result

    def in_order(self) -> Iterator[Any]:
        """The results whose turn it is."""
        while self.due in self.results:
            yield self.results.pop(self.due)
            self.due += 1

    def kill(self) -> None:
        """End those that are left."""
        for _, process in self.running.values():
            process.kill()
            process.join()


def _run(task: Callable[[], object], sender: Connection, parent: int) -> None:
    """In a forked process. Signals are for the one that forked it, and it ends with that one."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    torch.set_num_threads(1)
    use_own_lock()
    try:
        with threadpool_limits(1, user_api="blas"):
            result: object = task()
    except UserError as error:
        result = error
    sender.send_bytes(pickle.dumps(result))  # `send` would leave tensors with this process, which ends
