"""Processes that train together: sums over them are all that a step needs, and now and then a maximum.

Every process holds the whole SAE and a share of each batch's images. `runtime.processes: N` starts N of them with
torchrun, one a GPU; alone, a sum is the tensor itself.
"""

import logging
import os
import signal
import sys
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

KILLED = (
    "A process was ended by signal %d, perhaps for lack of memory. "
    "Run the same command again: it goes on from the last checkpoint."
)
CLOSED = {-signal.SIGTERM, 128 + signal.SIGTERM}  # so torchrun ends the others when one has failed
log = logging.getLogger("usae")


@dataclass(frozen=True)
class Ranks:
    """This process and how many there are."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Ranks":
        """As `torch.distributed` has it; alone where it was not initialised."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def highest(self, values: list[int], device: torch.device) -> list[int]:
        """The highest of all processes, value by value: what they agree on."""
        if self.size == 1:
            return values
        highest = torch.tensor(values, device=device)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return [int(value) for value in highest.tolist()]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


def launch(processes: int, module: str) -> None:
    """Run `module` in that many processes and end as they did; in one of them, or for one, do nothing."""
    if processes == 1 or "RANK" in os.environ:
        return
    try:
        torchrun(["--standalone", "--nproc-per-node", str(processes), "-m", module])
    except ChildFailedError as error:  # each has said why; those that a signal ended have negative numbers
        codes = {failure.exitcode for failure in error.failures.values()}
        worst = max(codes - CLOSED or codes)
        if worst < 0:
            log.error(KILLED, -worst)
        sys.exit(worst if worst > 0 else 128 - worst)
    except SignalException as error:  # handed on to all
        sys.exit(128 + error.sigval)
    sys.exit()


def join_processes(device: torch.device) -> torch.device:
    """Initialise the process group, if torchrun started this process; returns this one's own device."""
    if "RANK" not in os.environ or dist.is_initialized():
        return device
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type != "cuda":
        return device
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own
