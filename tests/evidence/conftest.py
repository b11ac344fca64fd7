"""A linear world where everything has an exact answer: activations are sparse causes times invertible maps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from usae.activations.store import ActivationStore
from usae.common.layout import Layout
from usae.evidence.codes.store import CodeStore
from usae.evidence.interventions.study import Study
from usae.evidence.metrics.labels.labels import TokenLabels
from usae.images.pixels.index import Record, write_index
from usae.sae.layers import STD_EPSILON
from usae.sae.universal import UniversalSAE

CAUSES, GRID, K = 5, 2, 5
WIDTHS = {"a": 6, "b": 8, "c": 7}


@dataclass(frozen=True)
class LinearWorld:
    """Activations A_i = S D_i of causes S, and SAEs whose concepts are the causes; renumbered in `independent`.

    The universal one's start has their codes and points elsewhere.
    """

    study: Study
    causes: dict[str, np.ndarray]  # split -> (images, tokens, causes)
    orders: dict[str, np.ndarray]  # model -> concept of its own SAE -> cause
    labels: dict[str, TokenLabels]
    classes: dict[str, np.ndarray]  # split -> (images,)
    blind: dict[str, int]  # model -> the cause that it does not see

    def write(self, kind: str) -> None:
        """The image index: with labels of tokens, classes of images, or nothing."""
        folder = self.study.layout.images
        folder.mkdir(parents=True)
        names = tuple(f"class {cause}" for cause in range(CAUSES)) if kind == "classes" else ()
        for split, truth in self.labels.items():
            classes = self.classes[split].tolist() if kind == "classes" else [None] * len(self.causes[split])
            records = [Record(key=str(image), data=b"", label=label) for image, label in enumerate(classes)]
            write_index(records, folder / f"{split}.parquet", None, names)
            if kind == "tokens":
                np.savez(folder / f"{split}_truth.npz", names=np.array(truth.names), coverage=truth.coverage)


@pytest.fixture
def linear_world(tmp_path) -> LinearWorld:
    """All models see all causes."""
    return world_in(tmp_path, {})


@pytest.fixture
def half_blind_world(tmp_path) -> LinearWorld:
    """Each model is blind to a cause of its own: its activations do not hold it, and its codes of it are 0."""
    return world_in(tmp_path, {"a": 0, "b": 1, "c": 2})


def world_in(folder: Path, blind: dict[str, int]) -> LinearWorld:
    rng = np.random.default_rng(0)
    causes = {"train": draw(rng, 120), "val": draw(rng, 40)}
    maps = {model: directions(rng, width) for model, width in WIDTHS.items()}
    for model, cause in blind.items():
        maps[model][cause] = 0
    seen = {model: np.arange(CAUSES) != blind.get(model, -1) for model in WIDTHS}  # (causes,)
    orders = {model: rng.permutation(CAUSES) for model in WIDTHS}
    shared = sae_of(maps)
    independent = {model: sae_of({model: maps[model][orders[model]]}) for model in WIDTHS}
    stores = {
        split: {model: store_of(folder / f"{model}-{split}", rows @ maps[model]) for model in WIDTHS}
        for split, rows in causes.items()
    }
    layout, val = Layout(folder), causes["val"]
    codes = {"usae": {}, "start": {}, "independent": {}}
    for model in WIDTHS:
        mine = val * seen[model]
        for name, place in (("usae", layout.codes("val")), ("start", layout.start_codes("val"))):
            codes[name][model] = codes_of(place / model, model, name, mine)
        own = layout.independent_codes("val") / model
        codes["independent"][model] = codes_of(own, model, "independent", mine[..., orders[model]])
    before = sae_of({model: directions(rng, width) for model, width in WIDTHS.items()})
    universal = {"usae": shared, "start": before}
    study = Study(universal, independent, stores["train"], stores["val"], codes, layout)
    names = tuple(f"cause {cause}" for cause in range(CAUSES))
    return LinearWorld(
        study,
        causes,
        orders,
        {split: TokenLabels(names, coverage(rows)) for split, rows in causes.items()},
        {split: rows.sum(axis=1).argmax(axis=1) for split, rows in causes.items()},
        blind,
    )


def draw(rng: np.random.Generator, images: int) -> np.ndarray:
    """Sparse causes, each 0 or 1 on a token: what a token carries is linear in them."""
    return (rng.random((images, GRID**2, CAUSES)) < 0.15).astype(np.float32)


def coverage(causes: np.ndarray) -> np.ndarray:
    return (255 * causes).astype(np.uint8).reshape(len(causes), GRID, GRID, CAUSES)


def directions(rng: np.random.Generator, width: int) -> np.ndarray:
    rows = rng.normal(size=(CAUSES, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def store_of(path, activations: np.ndarray) -> ActivationStore:
    store = ActivationStore.create(path, activations.shape, 32, "float32", {})
    for chunk in range(store.chunks):
        store.write(chunk, activations[list(store.span(chunk))].astype(np.float32))
    return store


def sae_of(maps: dict[str, np.ndarray]) -> UniversalSAE:
    sae = UniversalSAE({model: rows.shape[1] for model, rows in maps.items()}, CAUSES, K).eval()
    for model, rows in maps.items():
        part = sae.part(model)
        part.std.fill_(1 - STD_EPSILON)
        part.dictionary.weight.data = torch.from_numpy(rows)
        part.encoder.linear.weight.data = torch.from_numpy(np.linalg.pinv(rows).T.copy())  # pre-codes are causes
        part.encoder.linear.bias.data.zero_()
        part.encoder.norm.weight.data.fill_((1 + part.encoder.norm.eps) ** 0.5)
    return sae


def codes_of(path, model: str, name: str, causes: np.ndarray) -> CodeStore:
    store = CodeStore.create(
        path, model=model, sae=name, images=len(causes), grid=GRID, k=K, concepts=CAUSES, chunk_images=16
    )
    indices = np.broadcast_to(np.arange(CAUSES), causes.shape)
    for chunk in range(store.chunks):
        span = slice(chunk * 16, (chunk + 1) * 16)
        store.write(chunk, indices[span], causes[span])
    return CodeStore.open(path)
