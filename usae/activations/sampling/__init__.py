"""Batches of paired activations for stages `train` and `baselines`: which rows, how read, and re-paired."""

from usae.activations.sampling.loader import Loader
from usae.activations.sampling.order import Plan, check_batch, order
from usae.activations.sampling.paired import PairedActivations, open_paired
from usae.activations.sampling.pairing import Batch, mismatched_orders, shuffled_pairs
from usae.activations.sampling.resident import Resident

__all__ = [
    "Batch",
    "Loader",
    "PairedActivations",
    "Plan",
    "Resident",
    "check_batch",
    "mismatched_orders",
    "open_paired",
    "order",
    "shuffled_pairs",
]
