"""Images per second: ways of reading a store, and batches as `train` takes them.

    python -m benchmarks.loading [--store FOLDER ...] [--batch 32] [--batches 30]

Every batch is random images (or as many random tokens), as float32 in memory. Files are in the page cache (each is
read once before). Without --store, stores of random values are written and removed again.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import zarr

from usae.activations.sampling import Loader, PairedActivations, Plan
from usae.activations.store import ActivationStore

Reader = Callable[[np.ndarray], object]


def main() -> None:
    """Print a line for each way of reading the first store, and for each way of making batches of all of them."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        if options.store:
            stores = [ActivationStore.open(path) for path in options.store]
        else:
            stores = [written(Path(scratch) / str(i), width, options) for i, width in enumerate(options.widths)]
        for store in stores:
            for chunk in range(store.chunks):
                store.chunk_path(chunk).read_bytes()
            print(
                f"{store.images} images x {store.tokens} tokens x {store.width}, {store.dtype.name}, "
                f"{store.chunk_images} ({store.chunk_bytes / 1e6:.1f} MB) a chunk"
            )
        print(f"load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads of torch")
        compare(stores[0], options)
        loaders(PairedActivations({str(i): store for i, store in enumerate(stores)}), options)


def compare(store: ActivationStore, options: argparse.Namespace) -> None:
    """Time every reader on the same random images, in rounds, and print medians."""
    data, array = PairedActivations({"0": store}), zarr.open_array(store.path, mode="r")
    mapped = [store.chunk(chunk) for chunk in range(store.chunks)]
    drawn = np.random.default_rng(0).integers(0, store.images, (options.rounds, options.batches, options.batch))
    positions = np.random.default_rng(1).integers(0, store.tokens, options.batch * store.tokens)
    readers: dict[str, tuple[Reader, int]] = {
        "files, random images": (data.rows, options.batches),
        "files, the same as stored": (data.gather, options.batches),
        "memory map, as stored": (lambda images: _from_maps(mapped, store, images), options.batches),
        "files, random tokens": (
            lambda images: data.tokens_at("0", np.repeat(images, store.tokens), positions),
            1,
        ),
        "Zarr, oindex of a batch": (lambda images: array.oindex[images].astype(np.float32), 3),
        "Zarr, image by image": (lambda images: np.stack([array[int(i)] for i in images]).astype(np.float32), 1),
    }
    for name, (reader, batches) in readers.items():
        _print(name, [_timed((reader(images) for images in groups[:batches]), options.batch) for groups in drawn])


def loaders(data: PairedActivations, options: argparse.Namespace) -> None:
    """Time every kind of batch, of all models, and print medians: nothing else is done meanwhile."""
    batch, device = options.batch, torch.device(options.device)
    kinds = {
        "whole images": Loader(data, Plan(batch, 0), device, "never"),
        "whole images, in windows": Loader(data, Plan(batch, 0, data.images // 4), device, "never"),
        "shuffled tokens": Loader(data, Plan(batch, 0, shuffle_tokens=True), device, "never"),
        "resident, whole images": Loader(data, Plan(batch, 0), device, "always"),
        "resident, shuffled tokens": Loader(data, Plan(batch, 0, shuffle_tokens=True), device, "always"),
    }
    print(f"batches of {batch} images of {len(data.stores)} models on {device}:")
    for name, loader in kinds.items():
        steps = min(loader.steps_per_epoch, options.batches)
        _print(name, [_timed(loader.batches(0, steps), batch) for _ in range(options.rounds)])


def _from_maps(mapped: list[np.ndarray], store: ActivationStore, images: np.ndarray) -> np.ndarray:
    out = np.empty((len(images), store.tokens, store.width), store.dtype)
    for row, image in zip(out, images.tolist(), strict=True):
        row[:] = mapped[image // store.chunk_images][image % store.chunk_images]
    return out


def _timed(batches: Iterable[object], size: int) -> tuple[float, float]:
    """Images per second, and CPU milliseconds per batch."""
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    for _ in batches:
        count += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return count * size / (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu) / count


def _print(name: str, measured: list[tuple[float, float]]) -> None:
    rates, cpu = [rate for rate, _ in measured], statistics.median(cpu for _, cpu in measured)
    spread = f"from {min(rates):.0f} to {max(rates):.0f}"
    print(f"{name:28} {statistics.median(rates):9.0f} images/s ({spread})  {cpu:8.2f} CPU-ms a batch", flush=True)


def written(path: Path, width: int, options: argparse.Namespace) -> ActivationStore:
    """A store of random values, of the size that `options` say."""
    shape = (options.images, options.tokens, width)
    store = ActivationStore.create(path, shape, options.chunk, "float16", {})
    for chunk in range(store.chunks):
        values = np.random.default_rng(chunk).standard_normal((len(store.span(chunk)), *shape[1:]), np.float32)
        store.write(chunk, values.astype(np.float16))
    return store


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", type=Path, nargs="+", help="finished stores of the same images")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--batches", type=int, default=30, help="batches per round (Zarr: fewer)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2048, help="of the generated stores, and the following")
    parser.add_argument("--tokens", type=int, default=196)
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 768, 768])
    parser.add_argument("--chunk", type=int, default=128)
    return parser.parse_args()


if __name__ == "__main__":
    main()
