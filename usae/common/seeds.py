"""Seeds for what is to be random in its own way: a number that follows from the run's seed and a name."""

import numpy as np


def seed_of(seed: int, name: str) -> int:
    """A seed for whatever is called `name`, 0 to 2^32 - 1; other names and other seeds give unrelated ones."""
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0])
