"""Images and bytes per second of reading a store: memory-mapped images, Zarr slicing, memory-mapped single tokens.

    python -m benchmarks.loading [--store FOLDER] [--batch 32] [--batches 30]

Every batch is random images (or as many random tokens), as float32 in memory, as training takes them. Files are in
the page cache (each is read once before). Without --store, one of random values is written and removed again.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from usae.sampling import PairedActivations
from usae.store import ActivationStore

Reader = Callable[[np.ndarray], object]


def main() -> None:
    """Print a line for each way of reading, and how many times faster the memory map is than Zarr."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        store = ActivationStore.open(options.store) if options.store else written(Path(scratch) / "store", options)
        for chunk in range(store.chunks):
            store.chunk_path(chunk).read_bytes()
        print(
            f"{store.images} images x {store.tokens} tokens x {store.width}, {store.dtype.name}, "
            f"{store.chunk_images} ({store.chunk_bytes / 1e6:.1f} MB) a chunk; load {os.getloadavg()[0]:.1f}"
        )
        compare(store, options)


def compare(store: ActivationStore, options: argparse.Namespace) -> None:
    """Time every reader on the same random images, in rounds, and print medians."""
    data, array = PairedActivations([store]), zarr.open_array(store.path, mode="r")
    drawn = np.random.default_rng(0).integers(0, store.images, (options.rounds, options.batches, options.batch))
    positions = np.random.default_rng(1).integers(0, store.tokens, options.batch * store.tokens)
    readers: dict[str, tuple[Reader, float]] = {
        "memory map, random images": (data.rows, options.batches),
        "memory map, random tokens": (
            lambda images: data.tokens(0, np.repeat(images, store.tokens), positions),
            options.batches,
        ),
        "Zarr, oindex of a batch": (lambda images: array.oindex[images].astype(np.float32), 3),
        "Zarr, image by image": (lambda images: np.stack([array[int(i)] for i in images]).astype(np.float32), 1),
    }
    medians = {}
    for name, (reader, batches) in readers.items():
        rates = [_rate(reader, groups[: int(batches)]) for groups in drawn]
        medians[name] = statistics.median(rates)
        gigabytes = medians[name] * store.tokens * store.width * store.dtype.itemsize / 1e9
        spread = f"from {min(rates):.0f} to {max(rates):.0f}"
        print(f"{name:28} {medians[name]:9.0f} images/s ({spread})  {gigabytes:7.3f} GB/s", flush=True)
    fastest = max(rate for name, rate in medians.items() if name.startswith("Zarr"))
    print(f"memory map over the faster Zarr: {medians['memory map, random images'] / fastest:.1f} x")


def written(path: Path, options: argparse.Namespace) -> ActivationStore:
    """A store of random values, of the size that `options` say."""
    shape = (options.images, options.tokens, options.width)
    store = ActivationStore.create(path, shape, options.chunk, "float16", {})
    for chunk in range(store.chunks):
        values = np.random.default_rng(chunk).standard_normal((len(store.span(chunk)), *shape[1:]), np.float32)
        store.write(chunk, values.astype(np.float16))
    return store


def _rate(reader: Reader, groups: np.ndarray) -> float:
    """Images per second over some batches."""
    started = time.perf_counter()
    for images in groups:
        reader(images)
    return groups.size / (time.perf_counter() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", type=Path, help="a finished store; generated when left out")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--batches", type=int, default=30, help="batches per round (Zarr: fewer)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2048, help="of the generated store, and the following")
    parser.add_argument("--tokens", type=int, default=196)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--chunk", type=int, default=128)
    return parser.parse_args()


if __name__ == "__main__":
    main()
