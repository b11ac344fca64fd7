"""First weights that follow from their seed, also where several SAEs start side by side."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from usae.common.seeds import seed_of

_ONE_AT_A_TIME = threading.Lock()  # torch draws weights from one generator, the process's


@contextmanager
def drawn_from(seed: int, name: str) -> Iterator[None]:
    """What torch draws here on the CPU follows from `seed` and `name`, whatever other threads do; afterwards its
    generator is where it was before.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, name))
        yield
