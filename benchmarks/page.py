"""Size and building time of the page of a large run: 250 concepts x 9 images x 3 models, 6144 in the table.

python -m benchmarks.page --images FOLDER [--own 0]    # writes page_benchmark/reports/index.html

The photographs of the folder are repeated until every card has pictures of its own: the worst case, since the page
holds a picture once however many cards show it. Heatmaps are blobs of 4 x 4 to 7 x 7 tokens.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from usae.common.layout import Layout
from usae.common.params import load_params
from usae.common.tables import Table, no_rows, write_table
from usae.evidence.codes.store import CodeStore, open_codes
from usae.evidence.metrics.measure import concept_tables
from usae.evidence.metrics.measure.tables import RECONSTRUCTION
from usae.images.pixels.index import ImageIndex, Record, write_index
from usae.sae.universal import UniversalSAE
from usae.showing.explorer import write_report
from usae.showing.results.reports import Reports
from usae.showing.results.run import Run
from usae.training.tables import TRAINING

MODELS, GRID, K, CONCEPTS, CARDS, KEPT = ("a", "b", "c"), 14, 8, 6144, 250, 12
CHUNK = 128


def main() -> None:
    """Build the run, time the report, print its size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--own", type=int, default=4, help="report.own_images")
    parser.add_argument("--root", type=Path, default=Path("page_benchmark"))
    arguments = parser.parse_args()
    layout, images = Layout(arguments.root), KEPT * (1 + len(MODELS)) * CARDS
    _index(arguments.images, images, layout)
    exemplars = _exemplars(images)
    _codes(images, layout)
    run = _run(layout, exemplars, arguments.own)
    started, cpu = time.perf_counter(), time.process_time()
    page = write_report(run, layout.reports)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
    print(f"built in {time.perf_counter() - started:.0f} s, {time.process_time() - cpu:.0f} CPU-s")


def _index(photos: Path, count: int, layout: Layout) -> None:
    """`count` images: the photographs again and again."""
    data = [path.read_bytes() for path in sorted(photos.rglob("*.[jJ][pP]*[gG]"))]
    records = (Record(key=str(n), data=data[n % len(data)], label=0, digest=str(n)) for n in range(count))
    layout.images.mkdir(parents=True, exist_ok=True)
    write_index(records, layout.images / "val.parquet", None, ("photo",))


def _exemplars(count: int) -> pd.DataFrame:
    """No image twice: concept c has the images c, c + CARDS, c + 2 CARDS, ..."""
    rankings = np.repeat(["mean", *MODELS], KEPT)
    frames = [
        pd.DataFrame(
            {
                "concept_id": concept,
                "ranking": rankings,
                "rank": np.tile(np.arange(KEPT), 1 + len(MODELS)),
                "image": np.arange(concept, count, CARDS),
                "code": 1.0,
            }
        )
        for concept in range(CARDS)
    ]
    return pd.concat(frames, ignore_index=True)


def _codes(count: int, layout: Layout) -> None:
    """One blob per image and model, at the concept that has the image."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:GRID, :GRID]
    for model in MODELS:
        store = CodeStore.create(
            layout.codes("val") / model,
            model=model,
            sae="usae",
            images=count,
            grid=GRID,
            k=K,
            concepts=CONCEPTS,
            chunk_images=CHUNK,
        )
        for chunk in range(store.chunks):
            images = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, count))
            centres, sizes = rng.uniform(3, 11, (2, len(images), 1, 1)), rng.uniform(2, 3.5, (len(images), 1, 1))
            inside = np.maximum(abs(rows - centres[0]), abs(columns - centres[1])) < sizes
            blob = np.where(inside, rng.gamma(4, 0.5, (len(images), GRID, GRID)), 0)
            indices = np.tile(np.arange(K) + CARDS, (len(images), GRID**2, 1))
            indices[..., 0] = (images % CARDS)[:, None]
            values = np.zeros(indices.shape)
            values[..., 0] = blob.reshape(len(images), -1)
            store.write(chunk, indices, values)


def _run(layout: Layout, exemplars: pd.DataFrame, own: int) -> Run:
    UniversalSAE(dict.fromkeys(MODELS, 64), CONCEPTS, K).save_pretrained(layout.usae)
    rng, c = np.random.default_rng(1), np.arange(CONCEPTS)
    names = ("cofire_proportion_min", "lift", "firing_entropy", "energy")
    columns = {name: rng.random(CONCEPTS) for name in names}
    concepts = pd.DataFrame({"concept_id": c, "alive": True, "models_alive": 3, "fires": 900} | columns)
    concepts = concepts.assign(
        cofires=rng.integers(100, 300, CONCEPTS),
        tokens=9_800_000,
        top_label="photo",
        top_label_share=0.5,
        top_label_base=0.1,
    )
    concepts.loc[: CARDS - 1, "cofire_proportion_min"] += 1
    model_columns = {
        name: rng.random(CONCEPTS) for name in ("firing_rate", "cofire_proportion", "energy", "max_code")
    }
    concept_models = pd.concat(
        [pd.DataFrame({"concept_id": c, "model": m, "fires": 300, **model_columns}) for m in MODELS],
        ignore_index=True,
    )
    _write(concept_tables.CONCEPTS, concepts, layout)
    _write(concept_tables.CONCEPT_MODELS, concept_models, layout)
    _write(concept_tables.EXEMPLARS, exemplars, layout)
    _write(RECONSTRUCTION, no_rows(RECONSTRUCTION), layout)
    _write(TRAINING, pd.DataFrame({"step": [0], "source": ["a"], "loss": [1.0]}), layout)
    params = load_params()
    report = params.report.model_copy(
        update={"concepts": CARDS, "unique": 0, "own_images": own, "megabytes": 1000.0}
    )
    params = params.model_copy(
        update={"models": MODELS, "report": report, "zoo": dict.fromkeys(MODELS, params.zoo["language"])}
    )
    index = ImageIndex.load(layout.images / "val.parquet")
    return Run(layout.root, params, Reports.load(layout.reports), index, open_codes(layout.codes("val"), MODELS))


def _write(declared: Table, frame: pd.DataFrame, layout: Layout) -> None:
    """Those of a table's columns that the page needs."""
    columns = tuple(column for column in declared.columns if column.name in frame)
    write_table(replace(declared, columns=columns), frame, layout.table(declared))


if __name__ == "__main__":
    main()
