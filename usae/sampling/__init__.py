"""Batches of paired activations for stages `train` and `baselines`: which rows, how read, and re-paired."""

from usae.sampling.batches import Batch, shuffled_pairs, strangers
from usae.sampling.loader import Loader
from usae.sampling.order import Plan, check_batch, order
from usae.sampling.resident import Resident
from usae.sampling.stores import PairedActivations, open_paired

__all__ = [
    "Batch",
    "Loader",
    "PairedActivations",
    "Plan",
    "Resident",
    "check_batch",
    "open_paired",
    "order",
    "shuffled_pairs",
    "strangers",
]
