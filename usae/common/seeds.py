"""Random streams by name: what is to be random in its own way draws from a generator of its own.

A stream follows from the run's seed, a name, and numbers or slugs that tell its draws apart, such as epoch and
step. No two streams are equal: NumPy fills a list of integers up with zeros, so that `default_rng([seed])` and
`default_rng([seed, 0])` draw the same bits; here the text of all parts is hashed.
Generated scenes, and the training of the shipped networks on them, keep older streams of their own, by which those
networks were made.
"""

import hashlib

import numpy as np

Part = int | str


def generator(seed: int, name: str, *parts: Part) -> np.random.Generator:
    """The generator of the stream `name`; other seeds, names and parts give unrelated ones."""
    return np.random.default_rng(int.from_bytes(_digest(seed, name, *parts)))


def seed_of(seed: int, name: str, *parts: Part) -> int:
    """A seed for what takes only a number (torch, another SAE), 0 to 2^63 - 1; of the stream of that name."""
    return int.from_bytes(_digest(seed, name, *parts)[:8]) >> 1


def _digest(seed: int, name: str, *parts: Part) -> bytes:
    return hashlib.blake2b(repr((int(seed), name, *map(_plain, parts))).encode(), digest_size=16).digest()


def _plain(part: Part) -> Part:
    """NumPy's integers print in another way than Python's."""
    return part if isinstance(part, str) else int(part)
