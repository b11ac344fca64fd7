"""What the funnel calls universal when held-out images are re-paired between the models: nothing is shared then.

    python -m benchmarks.repaired [--times 5]

Works on the finished run in this directory (codes of the held-out images, tables of stage `contrast`), whose codes
have to fit in memory. Prints how many concepts pass each step that controls are asked, for the true pairs and for
each re-pairing; the bar of untrained networks is the run's.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from usae.common.params import Params, load_params
from usae.common.tables import read_table
from usae.evidence.codes.store import CodeChunk, open_codes
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.firing.evidence import evidence
from usae.evidence.metrics.firing.nulls import IMAGES, CofireNulls
from usae.evidence.metrics.funnel import common_steps, counts, untrained_bar


def main() -> None:
    """A line for each step and pairing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5)
    params = load_params()
    stores = open_codes(Path("data/codes/val"), params.models)
    codes = {model: joined(list(store)) for model, store in stores.items()}
    concepts = next(iter(stores.values())).concepts
    bar = untrained_bar(read_table(Path("reports/control_concepts.parquet")), len(codes))
    for number in range(parser.parse_args().times + 1):
        pairs = codes if number == 0 else paired_anew(codes, np.random.default_rng([params.seed, number]))
        print("true pairs" if number == 0 else f"re-paired, {number}", passed(pairs, concepts, bar, params))


def joined(chunks: list[CodeChunk]) -> CodeChunk:
    """All images of a model."""
    return CodeChunk(
        *(np.concatenate([getattr(c, name) for c in chunks]) for name in ("images", "indices", "values"))
    )


def paired_anew(codes: Mapping[str, CodeChunk], rng: np.random.Generator) -> dict[str, CodeChunk]:
    """Every model's images in an order of their own; the first model's numbers stand for all."""
    images = next(iter(codes.values())).images
    orders = {model: rng.permutation(len(images)) for model in codes}
    return {m: CodeChunk(images, c.indices[orders[m]], c.values[orders[m]]) for m, c in codes.items()}


def passed(codes: Mapping[str, CodeChunk], concepts: int, bar: float, params: Params) -> dict[str, int]:
    """Concepts left after each step."""
    chunks, models, measure = list(codes.values()), len(codes), params.measure
    everyone, sizes = tuple(range(models)), (models, concepts, measure.threshold)
    firing = FiringCounts(*sizes)
    images = len(chunks[0].images)
    nulls = CofireNulls(*sizes, measure.permutations, params.seed, images, only=[(IMAGES, everyone)])
    for counted in (firing, nulls):
        counted.update(chunks)
    nulls.finish()
    rows = evidence(firing, nulls.counts[IMAGES, everyone])
    table = counts(common_steps(rows, models, bar))
    return dict(zip(table["step"], table["concepts"].astype(int), strict=True))


if __name__ == "__main__":
    main()
