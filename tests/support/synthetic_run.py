"""A small finished run: generated scenes, and codes that follow their ground truth.

Concepts 0..A-1 are the scenes' attributes, seen by every model; then each model has three concepts of its own; the
last concept is dead.
"""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image

from usae.common.tables import Table, write_table
from usae.evidence.codes.store import CodeStore, aligned_chunks, open_codes
from usae.evidence.metrics.contrast.tables import START_EXEMPLARS
from usae.evidence.metrics.firing.counts import (
    FiringCounts,
    cofire_proportion,
    cofire_proportion_min,
    firing_entropy,
    lift,
)
from usae.evidence.metrics.firing.exemplars import Exemplars
from usae.evidence.metrics.firing.refinement import Refinement
from usae.evidence.metrics.labels.tables import PROBES
from usae.evidence.metrics.measure import concept_tables
from usae.evidence.metrics.measure.frames import concept_pairs_frame
from usae.evidence.metrics.measure.tables import RECONSTRUCTION
from usae.images.pixels.index import ImageIndex, Record, write_index
from usae.images.sources.shapes.scenes import ATTRIBUTES, GRID, scene
from usae.sae.universal import UniversalSAE
from usae.showing.maximisation.on_page import PAGE_PICTURES, page_pictures
from usae.showing.maximisation.tables import MAXIMISATION
from usae.showing.maximisation.targets import Maximisation, MaximisedTarget, PaintedTarget, targets_of
from usae.showing.maximisation.transfer import transfer_table, write_maximised
from usae.showing.results.run import Run
from usae.showing.scripts import write_beside
from usae.training.tables import TRAINING

ROOT = Path(__file__).parents[2]
MODELS = ("supervised", "distilled", "language")
K = 6
OWN = 3
CONCEPTS = len(ATTRIBUTES) + OWN * len(MODELS) + 1
FRAGMENT_SEED = 7
THRESHOLD = 0.1


@dataclass(frozen=True)
class SyntheticRun:
    """Where the pieces of the run lie."""

    root: Path
    index: ImageIndex
    codes: dict[str, CodeStore]

    @property
    def reports(self) -> Path:
        """The folder of the tables."""
        return self.root / "reports"


def make_run(root: Path, images: int = 48) -> SyntheticRun:
    """Write images, codes and tables below `root`."""
    scenes = [scene(FRAGMENT_SEED, number) for number in range(images)]
    (root / "data/images").mkdir(parents=True)
    (root / "reports").mkdir()
    records = [replace(Record.of_bytes(f"val/{n}", _png(item.image)), label=0) for n, item in enumerate(scenes)]
    write_index(records, root / "data/images/val.parquet", None, ("scene",))
    coverage = np.stack([item.coverage for item in scenes]).reshape(images, GRID * GRID, -1) / 255.0
    for number, model in enumerate(MODELS):
        _write_codes(root / "data/codes/val" / model, model, number, coverage)
    torch.manual_seed(FRAGMENT_SEED)
    UniversalSAE(dict.fromkeys(MODELS, 8), CONCEPTS, K).save_pretrained(root / "data/usae")
    codes = open_codes(root / "data/codes/val", MODELS)
    _write_tables(root / "reports", codes)
    return SyntheticRun(root, ImageIndex.load(root / "data/images/val.parquet"), codes)


def synthetic_run(root: Path, **report: object) -> Run:
    """The run with a params.yaml of its own, few cards unless `report` says otherwise, opened."""
    make_run(root)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["report"] |= {"concepts": 5, "unique": 1, "images": 4, "own_images": 2, **report}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Run.load(root)


def maximised_run(run: Run, concepts: list[int]) -> Run:
    """The same with what stage `maximise` writes, pictures all grey, opened anew."""
    m, n = len(MODELS), len(concepts) + 1
    scores = np.arange(m * m * 2 * n, dtype=np.float32).reshape(m, m, 2, n)
    maps, mean_tokens = np.ones((m, m, 2, 4), np.float32), np.full((m, 2, 3), 3**-0.5, np.float32)
    curves, pictures = np.ones((m, 2, 5), np.float32), np.full((m, 2, 16, 16, 4), 200, np.uint8)
    real = dict.fromkeys(MODELS, np.stack([np.arange(n), np.arange(n) + 2.0]))
    maximised = [MaximisedTarget(PaintedTarget(pictures, curves), scores, maps, mean_tokens)] * n
    maximisation = Maximisation(targets_of(concepts, 1), maximised, real)
    table = transfer_table(maximisation)
    write_maximised(run.maximised, maximisation)
    write_table(MAXIMISATION, table, run.root / "reports/maximisation.parquet")
    write_beside(run.root / "reports" / PAGE_PICTURES, page_pictures(table, run.maximised, MODELS, (3,)))
    return Run.load(run.root)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def _write_codes(path: Path, model: str, number: int, coverage: np.ndarray) -> None:
    rng = np.random.default_rng([FRAGMENT_SEED, number])
    images, tokens, attributes = coverage.shape
    dense = np.zeros((images, tokens, CONCEPTS))
    seen = coverage > 0.25 + 0.1 * rng.random(coverage.shape)
    dense[..., :attributes] = np.where(seen, coverage * (2 + rng.gamma(2, 0.5, coverage.shape)), 0)
    start = attributes + OWN * number
    own = rng.random((images, tokens, OWN)) < 0.15
    dense[..., start : start + OWN] = np.where(own, 1 + rng.random(own.shape), 0)
    indices = np.argsort(-dense, axis=-1)[..., :K]
    values = np.take_along_axis(dense, indices, axis=-1)
    chunk = images // 2
    store = CodeStore.create(
        path, model=model, sae="usae", images=images, grid=GRID, k=K, concepts=CONCEPTS, chunk_images=chunk
    )
    for number in range(store.chunks):
        rows = slice(number * chunk, (number + 1) * chunk)
        store.write(number, indices[rows], values[rows])


def _write_tables(folder: Path, codes: dict[str, CodeStore]) -> None:
    counts, exemplars = FiringCounts(len(MODELS), CONCEPTS, THRESHOLD), Exemplars(MODELS, CONCEPTS, 12)
    for chunks in aligned_chunks(codes):
        counts.update(chunks)
        exemplars.update(chunks)
    _write(folder, concept_tables.CONCEPTS, _concepts(counts))
    _write(folder, concept_tables.CONCEPT_MODELS, _concept_models(counts))
    _write(folder, concept_tables.CONCEPT_PAIRS, concept_pairs_frame(counts, MODELS))
    best = exemplars.frame()
    _write(folder, concept_tables.EXEMPLARS, best)
    _write(folder, START_EXEMPLARS, best[best["ranking"] == MODELS[0]])
    _write(folder, RECONSTRUCTION, _reconstruction())
    _write(folder, TRAINING, _training())
    _write(folder, PROBES, _probes())
    (folder / "metrics.json").write_text(json.dumps({"alive": int((counts.fires.sum(0) > 0).sum())}))


def _write(folder: Path, declared: Table, frame: pd.DataFrame) -> None:
    """The columns that there are, as `write_table` documents and types them."""
    schema = pa.schema([column.field for column in declared.columns if column.name in frame])
    pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), folder / f"{declared.name}.parquet")


def _concepts(counts: FiringCounts) -> pd.DataFrame:
    labels = [*ATTRIBUTES, *[None] * (CONCEPTS - len(ATTRIBUTES))]
    known = np.arange(CONCEPTS) < len(ATTRIBUTES)
    return pd.DataFrame(
        {
            "concept_id": np.arange(CONCEPTS),
            **Refinement((CONCEPTS,), THRESHOLD).columns(counts),
            "alive": counts.fires.sum(0) > 0,
            "models_alive": (counts.fires > 0).sum(0),
            "fires": counts.fires.sum(0),
            "cofires": counts.cofires,
            "tokens": counts.tokens,
            "firing_entropy": firing_entropy(counts.fires),
            "cofire_proportion_min": cofire_proportion_min(counts.cofires, counts.fires),
            "lift": lift(counts.cofires, counts.fires, counts.tokens),
            "energy": counts.mean_codes.mean(0),
            "top_label": labels,
            "top_label_share": np.where(known, 0.8, np.nan),
            "top_label_base": np.where(known, 0.07, np.nan),
        }
    )


def _concept_models(counts: FiringCounts) -> pd.DataFrame:
    proportion = cofire_proportion(counts.cofires, counts.fires)
    frames = [
        pd.DataFrame(
            {
                "concept_id": np.arange(CONCEPTS),
                "model": model,
                "fires": counts.fires[number],
                "cofire_proportion": proportion[number],
                "energy": counts.mean_codes[number],
                "mean_code": counts.mean_codes[number],
                "max_code": counts.maxima[number],
            }
        )
        for number, model in enumerate(MODELS)
    ]
    return pd.concat(frames, ignore_index=True)


def _reconstruction() -> pd.DataFrame:
    values = np.array([[0.61, 0.36, 0.25], [0.31, 0.77, 0.31], [0.30, 0.45, 0.59]])
    rows = [("usae", s, t, values[i, j]) for i, s in enumerate(MODELS) for j, t in enumerate(MODELS)]
    rows += [("independent", model, model, values[i, i] + 0.06) for i, model in enumerate(MODELS)]
    frame = pd.DataFrame(rows, columns=["sae", "source", "target", "r2_channel"])
    r2_scalar = frame["r2_channel"] + 0.1
    return frame.assign(split="val", r2_scalar=r2_scalar, mse=1 - r2_scalar, tokens=3072)


def _training() -> pd.DataFrame:
    rng = np.random.default_rng(FRAGMENT_SEED)
    steps = np.arange(600)
    return pd.DataFrame(
        {
            "step": steps,
            "epoch": steps // 100,
            "source": rng.choice(MODELS, steps.size),
            "loss": 0.9 + 1.6 * np.exp(-steps / 120) + rng.normal(0, 0.04, steps.size),
            "learning_rate": 3e-4,
        }
    )


def _probes() -> pd.DataFrame:
    rng = np.random.default_rng(FRAGMENT_SEED)
    rows = [
        (m, a.split(": ")[0], a.split(": ")[1], 0.8 + 0.2 * rng.random(), 0.55 + 0.3 * rng.random())
        for m in MODELS
        for a in ATTRIBUTES
    ]
    return pd.DataFrame(rows, columns=["model", "group", "attribute", "auc_trained", "auc_untrained"])
