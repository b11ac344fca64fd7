"""What storing activations in fewer bits costs: bytes, and the share of variance lost.

python -m benchmarks.precision STORE [STORE ...] [--images 256]

Loss is 1 - R2 about the channels' means over the first images of each store (the index is in random order), over
all channels together and, in brackets, in the worst channel. The reference is what the store holds: in a float32
store the network's own values, in a float16 store the rounded ones, so that float16 itself loses nothing there.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore

LEVELS = 127  # of int8 on either side of zero


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table: a row a store, a column a way of storing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description="Loss by precision.")
    parser.add_argument("stores", nargs="+", type=Path, metavar="STORE")
    parser.add_argument("--images", type=int, default=256, help="images read of each store")
    given = parser.parse_args(arguments)
    rows = []
    for path in given.stores:
        store = ActivationStore.open(path)
        values = np.asarray(store.take(range(min(given.images, store.images)))).astype(np.float32)
        losses = measured(values.reshape(-1, store.width))
        rows.append({"store": path.name.rsplit("-", 1)[0], "type": str(store.dtype), **losses})
    print(pd.DataFrame(rows).set_index(["store", "type"]).T.to_string())


def measured(rows: np.ndarray) -> dict[str, str]:
    """For each way to store rows [n, width]: bytes, loss over all channels, loss in the worst one."""
    total = np.square(rows - rows.mean(0, dtype=np.float64)).sum(0, dtype=np.float64)  # (width)
    alive = total > total.max() * 1e-9  # a constant channel has no variance to lose
    found = {}
    for name, (size, store) in ways(rows).items():
        lost = np.square(rows - store(rows).astype(np.float64)).sum(0)  # (width)
        found[f"{name}, {size}"] = f"{lost.sum() / total.sum():.1e} ({(lost[alive] / total[alive]).max():.1e})"
    return found


def ways(rows: np.ndarray) -> dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Name -> bytes, and the round trip through the stored form."""
    mean, std = rows.mean(0), rows.std(0) + 1e-12  # (width)
    largest = np.abs(rows).max(0) + 1e-12  # (width)
    clipped = 6 * std

    def per_channel(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(values / scale * LEVELS), -LEVELS, LEVELS) * (scale / LEVELS)

    def per_token(values: np.ndarray) -> np.ndarray:
        scale = (np.abs(values).max(1, keepdims=True) + 1e-12).astype(np.float16).astype(np.float32)  # (n, 1)
        return np.clip(np.rint(values / scale * LEVELS), -LEVELS, LEVELS) * (scale / LEVELS)

    return {
        "float16": ("2 B", lambda values: values.astype(np.float16).astype(np.float32)),
        "bfloat16 as uint16": ("2 B", lambda values: torch.from_numpy(values).bfloat16().float().numpy()),
        "int8 per channel, largest": ("1 B", lambda values: per_channel(values, largest)),
        "int8 per channel, 6 std about the mean": (
            "1 B",
            lambda values: per_channel(values - mean, clipped) + mean,
        ),
        "int8 per token": ("1 B and 2 a token", per_token),
        "int8 per token of standardised channels": (
            "1 B and 2 a token",
            lambda values: per_token((values - mean) / std) * std + mean,
        ),
    }


if __name__ == "__main__":
    main()
