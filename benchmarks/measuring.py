"""Time and memory of measuring sparse codes, part by part, at growing numbers of images.

    python -m benchmarks.measuring [--images 1250 2500 5000] [--permutations 5]

Writes random codes into stores like those of stage `encode`, of the paper's size (196 tokens, 6144 concepts, k 32,
three models): concepts have log-normal rates, an image draws a pool of them that all models share, each token
draws its own from the pool. Each part runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from usae.common.numerics.matching import matching, random_matching
from usae.common.numerics.sparse_sums import add_products
from usae.common.params import load_params
from usae.evidence.codes.rows import code_rows
from usae.evidence.codes.store import CodeStore, aligned_chunks, open_codes
from usae.evidence.metrics.dictionaries.consistency import consistency_frame
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.exemplars import Exemplars
from usae.evidence.metrics.firing.nulls import CofireNulls
from usae.evidence.metrics.labels.concepts import LabelFires
from usae.evidence.metrics.labels.labels import ImageLabels
from usae.evidence.metrics.measure.counting import concept_statistics
from usae.evidence.metrics.measure.frames import (
    concept_models_frame,
    concept_pairs_frame,
    concepts_frame,
    patterns_frame,
)
from usae.evidence.metrics.summary import concept_numbers

MODELS = ("a", "b", "c")
WIDTHS = (768, 384, 768)
GRID, CONCEPTS, K, CHUNK = 14, 6144, 32, 64
POOL = 512  # concepts that an image has at all
RATE_SPREAD = 2.0  # standard deviation of the logarithm of a concept's rate
THRESHOLD, EXEMPLARS, CLASSES = 0.1, 9, 100


def main() -> None:
    """Print a line for each part and number of images."""
    options = _options()
    print(f"{len(MODELS)} models, {GRID**2} tokens, {CONCEPTS} concepts, k {K}; load {os.getloadavg()[0]:.1f}")
    print(f"{'images':>7} {'part':24} {'wall s':>8} {'CPU s':>8} {'peak MB':>8}")
    for images in options.images:
        with tempfile.TemporaryDirectory() as scratch:
            measured("(writing the codes)", images, write_codes, Path(scratch), images)
            for name, part in PARTS.items() if options.only is None else [(options.only, PARTS[options.only])]:
                measured(name, images, part, Path(scratch), options.permutations)
    measured("one matching, 768 wide", CONCEPTS, match_dictionaries, WIDTHS[0])
    measured("its Gaussian baseline", CONCEPTS, match_gaussians, WIDTHS[0])


def measured(name: str, size: int, part: Callable[..., None], *arguments: object) -> None:
    """Run one part in a fresh process and print what it took."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        wall, cpu, peak = pool.apply(_timed, (part, arguments))
    print(f"{size:7} {name:24} {wall:8.2f} {cpu:8.2f} {peak:8.0f}", flush=True)


def read(folder: Path, _: int) -> None:
    """Nothing but reading."""
    for _ in aligned_chunks(open_codes(folder, MODELS)):
        pass


def firing(folder: Path, _: int) -> None:
    """Fires, co-fires, patterns, energies."""
    counts = FiringCounts(len(MODELS), CONCEPTS, THRESHOLD)
    for chunks in aligned_chunks(open_codes(folder, MODELS)):
        counts.update(chunks)


def exemplars(folder: Path, _: int) -> None:
    """Top images of every concept."""
    best = Exemplars(MODELS, CONCEPTS, EXEMPLARS)
    for chunks in aligned_chunks(open_codes(folder, MODELS)):
        best.update(chunks)


def labels(folder: Path, _: int) -> None:
    """Fires per class."""
    codes = open_codes(folder, MODELS)
    classes = np.arange(codes[MODELS[0]].images) % CLASSES
    labels = ImageLabels(tuple(map(str, range(CLASSES))), classes)
    counts = LabelFires(labels, len(MODELS), CONCEPTS, THRESHOLD)
    for chunks in aligned_chunks(codes):
        counts.update(chunks)


def products(folder: Path, _: int) -> None:
    """Sums of products of all codes of one model with all of another, as correlations of codes are made."""
    total = np.zeros((CONCEPTS, CONCEPTS))
    for one, other, _ in aligned_chunks(open_codes(folder, MODELS)):
        add_products(total, code_rows(one, CONCEPTS), code_rows(other, CONCEPTS))


def scipy_products(folder: Path, _: int) -> None:
    """The same by scipy's product of sparse matrices."""
    total = np.zeros((CONCEPTS, CONCEPTS))
    for one, other, _ in aligned_chunks(open_codes(folder, MODELS)):
        entries = (code_rows(one, CONCEPTS).T @ code_rows(other, CONCEPTS)).tocoo()
        total[entries.row, entries.col] += entries.data


def nulls(folder: Path, permutations: int) -> None:
    """All nulls, of all models and of every pair."""
    codes = open_codes(folder, MODELS)
    images = codes[MODELS[0]].images
    counts = CofireNulls(len(MODELS), CONCEPTS, THRESHOLD, permutations, 0, images, np.arange(images) % CLASSES)
    for chunks in aligned_chunks(codes):
        counts.update(chunks)
    counts.finish()


def paper_tables(folder: Path, _: int) -> None:
    """As stage `measure` makes them, in one process: firing, entropy, energy, exemplars, labels, consistency."""
    codes = open_codes(folder, MODELS)
    classes = np.arange(codes[MODELS[0]].images) % CLASSES
    labels = ImageLabels(tuple(map(str, range(CLASSES))), classes)
    params = load_params().measure.model_copy(update={"permutations": 0, "exemplars": EXEMPLARS})
    found = concept_statistics(codes, labels, params, 0, None)
    norms = np.ones((len(MODELS), CONCEPTS))
    assert found.labels is not None
    concepts_frame(found.firing, norms, found.labels.top_labels(), MODELS)
    concept_models_frame(found.firing, norms, MODELS)
    concept_pairs_frame(found.firing, MODELS)
    patterns_frame(found.firing, MODELS)
    concept_numbers(found.firing, norms, MODELS)
    found.exemplars.frame()
    pairs = {model: noisy_copy(width) for model, width in zip(MODELS, WIDTHS, strict=True)}
    own, alone = ({model: pair[side] for model, pair in pairs.items()} for side in range(2))
    consistency_frame(own, alone, 0)


def match_dictionaries(width: int) -> None:
    """A dictionary against a noisy, reordered copy of itself."""
    matching(*noisy_copy(width))


def noisy_copy(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two dictionaries (c, width) that resemble each other, some concepts more than others."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((CONCEPTS, width), np.float32)
    noisy = rows + rng.standard_normal((CONCEPTS, width), np.float32) * rng.uniform(0, 3, (CONCEPTS, 1))
    return rows, rng.permutation(noisy)


def match_gaussians(width: int) -> None:
    """Two random dictionaries."""
    random_matching(CONCEPTS, width, 0)


def write_codes(folder: Path, images: int) -> None:
    """Random codes of all models, chunk by chunk."""
    shape = {"images": images, "grid": GRID, "k": K, "concepts": CONCEPTS, "chunk_images": CHUNK}
    stores = [CodeStore.create(folder / model, model=model, sae="usae", **shape) for model in MODELS]
    rates = np.exp(RATE_SPREAD * np.random.default_rng(0).standard_normal(CONCEPTS, np.float32))
    for chunk in range(stores[0].chunks):
        rng = np.random.default_rng([1, chunk])
        count = min(CHUNK, images - chunk * CHUNK)
        pool = drawn(rng, np.broadcast_to(rates, (count, CONCEPTS)), POOL)  # (images, pool)
        for store in stores:
            weights = np.broadcast_to(rates[pool][:, None], (count, GRID**2, POOL))
            chosen = drawn(rng, weights, K)  # (images, tokens, k), places in the pool
            indices = np.take_along_axis(pool[:, None], chosen, axis=-1)
            store.write(chunk, indices, rng.gamma(2.0, 0.3, indices.shape))


PARTS = {
    "reading": read,
    "firing": firing,
    "exemplars": exemplars,
    "labels": labels,
    "nulls": nulls,
    "products": products,
    "products by scipy": scipy_products,
    "the paper's tables": paper_tables,
}


def drawn(rng: np.random.Generator, weights: np.ndarray, count: int) -> np.ndarray:
    """`count` places of the last axis by weight, without replacement: the first of as many exponential clocks."""
    clocks = rng.standard_exponential(weights.shape, np.float32) / weights
    return np.argpartition(clocks, count, axis=-1)[..., :count]


def _timed(part: Callable[..., None], arguments: tuple[object, ...]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, peak resident megabytes of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    part(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.perf_counter() - wall, time.process_time() - cpu, peak


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, nargs="+", default=[1250, 2500, 5000])
    parser.add_argument("--only", choices=list(PARTS), help="one part")
    parser.add_argument("--permutations", type=int, default=5, help="of each null")
    return parser.parse_args()


if __name__ == "__main__":
    main()
