"""Time and memory of what grows with images and chunk files, at three sizes, and what ImageNet-1k would take.

    python -m benchmarks.scale [--factor 1 | --sizes 2500 5000 10000] [--only PART ...]

Nothing is downloaded: images are hard links to a few pictures, stores are sparse files, tiny chunks or links to a
few, codes are one made-up chunk over and over (196 tokens, 6144 concepts, k 32, three models). Each part runs at
three sizes, in a process of its own each time: its peak memory is its own. Growth is the exponent between the
first and the last size: 1 is linear. The last columns follow from the line through the last two sizes; they were
not run.
"""

import argparse
import math
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.loading import written
from benchmarks.measuring import CHUNK, CONCEPTS, GRID, MODELS, THRESHOLD, WIDTHS, K, drawn
from usae.activations.commands.catalogue import entries, unnamed
from usae.activations.sampling import PairedActivations
from usae.activations.sampling.loader import Loader
from usae.activations.sampling.order import Plan
from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest
from usae.common.params import load_params
from usae.evidence.codes.encoding import encode_split
from usae.evidence.codes.store import CodeStore, open_codes
from usae.evidence.metrics.contrast.measured import HeldOut
from usae.evidence.metrics.measure.counting import concept_statistics
from usae.images.sources.writing import write_images
from usae.sae.universal import UniversalSAE

TRAIN, VAL, CHUNKS = 1_281_167, 50_000, 10_010  # of ImageNet-1k, in chunks of 128 images
LINKS = 30_000  # to one picture: file systems allow some 65 000
MADE = 8  # chunks of activations that are drawn; the others are links to these
TOKENS = GRID**2
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """A thing to time. made: writes what it needs; run: what is timed; both of a folder and a size."""

    unit: str
    sizes: tuple[int, int, int]
    full: int
    made: Callable[[Path, int], None]
    run: Callable[[Path, int], None]


def main() -> None:
    """Print a row for each part: seconds and megabytes at three sizes, their growth, and the full size."""
    options = _options()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, one thread", flush=True)
    print("| part | size | CPU-s | peak MB | growth of time | full size | CPU-s there | peak MB there |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.only or PARTS:
        part = PARTS[name]
        sizes = options.sizes or [max(1, round(size * options.factor)) for size in part.sizes]
        print(row(name, part, sizes, [measured(part, size) for size in sizes]), flush=True)


def row(name: str, part: Part, sizes: list[int], found: list[tuple[float, float]]) -> str:
    """One line of the table; found: CPU seconds and peak megabytes at each size."""
    seconds, peaks = zip(*found, strict=True)
    growth = math.log(max(seconds[-1], 1e-3) / max(seconds[0], 1e-3)) / math.log(sizes[-1] / sizes[0])
    there = [extended(sizes, values, part.full) for values in (seconds, peaks)]
    cells = [
        name,
        " / ".join(f"{size:,}" for size in sizes) + f" {part.unit}",
        " / ".join(f"{value:.1f}" for value in seconds),
        " / ".join(f"{value:.0f}" for value in peaks),
        f"{growth:.2f}",
        f"{part.full:,}",
        *(f"{value:,.0f}" for value in there),
    ]
    return f"| {' | '.join(cells)} |"


def extended(sizes: list[int], values: tuple[float, ...], full: int) -> float:
    """The line through the last two sizes, at the full one; what does not grow stays as it is."""
    slope = max(0.0, (values[-1] - values[-2]) / (sizes[-1] - sizes[-2]))
    return values[-1] + slope * (full - sizes[-1])


def measured(part: Part, size: int) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one part, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        for function in (part.made, part.run):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(_timed, (function, Path(scratch), size))
    return found


def linked_images(folder: Path, size: int) -> None:
    """Hard links to as few pictures as the file system allows, in a hundred class folders."""
    for number in range(size):
        original = folder / "originals" / f"{number // LINKS}.png"
        if not original.exists():
            original.parent.mkdir(exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(original)
        link = folder / "images" / f"class{number % 100:02d}" / f"{number}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(original, link)


def index(folder: Path, _: int) -> None:
    """Stage `images`: list, read and check every image, write both indexes."""
    values = {"source": "folder", "path": str(folder / "images"), "train": None, "val": None}
    write_images(folder / "index", load_params().images.model_copy(update=values), 0, 1)


def tiny_chunks(folder: Path, size: int) -> None:
    """A finished store of as many chunk files, each of one image of 4 tokens."""
    written(folder / "vit-train-0123456789ab", 8, argparse.Namespace(images=size, tokens=4, chunk=1))


def looked_after(folder: Path, _: int) -> None:
    """Describe the store, open it by its manifest, read every byte, and look for what `usae store gc` removes."""
    path = folder / "vit-train-0123456789ab"
    manifest = replace(Manifest.generated("vit", ActivationStore.open(path)), grid=2)
    manifest.save(folder / "vit.json")
    Manifest.load(folder / "vit.json").open("train", folder, whole=True)
    unnamed(entries(folder, {"vit": manifest}), datetime.now())


def sparse_store(folder: Path, size: int) -> None:
    """A store whose chunk files are holes: sizes as on a real disk, and no room."""
    store = ActivationStore.create(folder / "vit", (size, TOKENS, WIDTHS[1]), CHUNK, "float16", {})
    for chunk in range(store.chunks):
        store.chunk_path(chunk).parent.mkdir(parents=True, exist_ok=True)
        with store.chunk_path(chunk).open("wb") as file:
            file.truncate(store.chunk_bytes + 4)


def shuffled(folder: Path, size: int) -> None:
    """An epoch of batches of 32 whole images, shuffled within windows of half the set."""
    data = PairedActivations({"vit": ActivationStore.open(folder / "vit")})
    loader = Loader(data, Plan(32, 0, max(32, size // 2)), CPU, "never")
    for _ in loader.batches(0, loader.steps_per_epoch):
        pass


def activations(folder: Path, size: int) -> None:
    """Random activations of all models: a few chunks over and over, as links, which take no room."""
    for number, width in enumerate(WIDTHS):
        store = ActivationStore.create(folder / MODELS[number], (size, TOKENS, width), CHUNK, "float16", {})
        rng = np.random.default_rng(number)
        for chunk in range(store.chunks):
            path, shape = store.chunk_path(chunk), (len(store.span(chunk)), TOKENS, width)
            if chunk < MADE or chunk == store.chunks - 1:
                store.write(chunk, rng.standard_normal(shape, np.float32).astype(np.float16))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(store.chunk_path(chunk % MADE), path)


def encode(folder: Path, _: int) -> None:
    """Stage `encode`, one model."""
    encode_split(_sae(), MODELS[0], ActivationStore.open(folder / MODELS[0]), folder / "codes", "usae", None, CPU)


def contrast(folder: Path, _: int) -> None:
    """Stage `contrast`, one SAE: encode, decode into all models, count, re-pair, resample."""
    stores = {model: ActivationStore.open(folder / model) for model in MODELS}
    params = load_params().measure.model_copy(update={"permutations": 2})
    HeldOut(_sae(), stores, params, 0, CPU).measured()


def repeated_codes(folder: Path, size: int) -> None:
    """Codes of all models: one made-up chunk over and over, its concepts moved on by one each time."""
    shape = {"images": size, "grid": GRID, "k": K, "concepts": CONCEPTS, "chunk_images": CHUNK}
    for number, model in enumerate(MODELS):
        rng = np.random.default_rng(number)
        rates = np.exp(2 * np.random.default_rng(0).standard_normal(CONCEPTS, np.float32))
        indices = drawn(rng, np.broadcast_to(rates, (4, TOKENS, CONCEPTS)), K)  # (4, tokens, k)
        indices, values = np.tile(indices, (CHUNK // 4, 1, 1)), rng.gamma(2, 0.3, (CHUNK, TOKENS, K))
        store = CodeStore.create(folder / model, model=model, sae="usae", **shape)
        for chunk in range(store.chunks):
            count = min(CHUNK, size - chunk * CHUNK)
            store.write(chunk, (indices[:count] + chunk) % CONCEPTS, values[:count])


def measure(folder: Path, _: int) -> None:
    """Stage `measure`, what it counts of codes: fires, sets of models, top images, nulls."""
    params = load_params().measure.model_copy(update={"permutations": 2, "threshold": THRESHOLD})
    concept_statistics(open_codes(folder, MODELS), None, params, 0, None)


PARTS = {
    "`images`: list and check": Part("images", (5_000, 10_000, 20_000), TRAIN, linked_images, index),
    "stores: verify, gc": Part("chunks", (2_500, 5_000, 10_000), 3 * CHUNKS, tiny_chunks, looked_after),
    "`train`: shuffle in windows": Part("images", (10_000, 20_000, 40_000), TRAIN, sparse_store, shuffled),
    "`encode`, one model": Part("images", (64, 128, 256), VAL, activations, encode),
    "`contrast`, one SAE": Part("images", (32, 64, 128), VAL, activations, contrast),
    "`measure`, of codes": Part("images", (640, 1_280, 2_560), VAL, repeated_codes, measure),
}


def _sae() -> UniversalSAE:
    torch.manual_seed(0)
    return UniversalSAE(dict(zip(MODELS, WIDTHS, strict=True)), CONCEPTS, K).eval()


def _timed(function: Callable[[Path, int], None], folder: Path, size: int) -> tuple[float, float]:
    """CPU seconds, and peak resident megabytes of this process."""
    torch.set_num_threads(1)
    began = time.process_time()
    function(folder, size)
    return time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--factor", type=float, default=1.0, help="of all sizes")
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="N", help="two or more, in place of each part's own"
    )
    parser.add_argument("--only", choices=list(PARTS), nargs="+", metavar="PART", help=f"of {', '.join(PARTS)}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
