"""What methods without training are fitted on, small enough to follow by hand."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.support.worlds import store_at
from usae.activations.store import ActivationStore
from usae.methods.fitting.material import Material
from usae.methods.runs.variants import RUN
from usae.sae.layers import STD_EPSILON
from usae.sae.universal import UniversalSAE

Rows = Mapping[str, np.ndarray]


def sae_with(dictionaries: Rows, k: int, coarse: tuple[int, ...] = ()) -> UniversalSAE:
    """An SAE with these concepts (c, d) at unit norm, whose encoder is the dictionary's pseudo-inverse.

    Activations are in standardised units as they are.
    """
    concepts = len(next(iter(dictionaries.values())))
    widths = {model: rows.shape[1] for model, rows in dictionaries.items()}
    sae = UniversalSAE(widths, concepts, k, coarse=coarse).eval()
    for model, rows in dictionaries.items():
        part = sae.part(model)
        part.std.fill_(1 - STD_EPSILON)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        part.dictionary.weight.data = torch.from_numpy(unit.astype(np.float32))
        part.encoder.linear.weight.data = torch.from_numpy(np.linalg.pinv(unit).T.astype(np.float32))
        part.encoder.linear.bias.data.zero_()
        part.encoder.norm.weight.data.fill_((1 + part.encoder.norm.eps) ** 0.5)
    return sae


def material_of(
    folder: Path,
    train: Rows,
    held_out: Rows | None = None,
    alone: Mapping[str, UniversalSAE] | None = None,
    *,
    concepts: int = 2,
    k: int = 1,
    seed: int = 0,
) -> Material:
    """From activations (images, tokens, d) of each model, held-out ones the same if there are none.

    alone: SAEs of each model by itself; by default concept number n is channel number n, modulo the width.
    """
    channels = {m: np.eye(rows.shape[2])[np.arange(concepts) % rows.shape[2]] for m, rows in train.items()}
    units = sae_with(channels, k)
    own = alone or {model: sae_with({model: rows}, k) for model, rows in channels.items()}
    kept = [_stores(folder / split, rows) for split, rows in (("train", train), ("val", held_out or train))]
    images = np.arange(len(next(iter(train.values()))))
    return Material(RUN, units, own, *kept, images, k, seed, torch.device("cpu"))


def _stores(folder: Path, rows: Rows) -> dict[str, ActivationStore]:
    return {model: store_at(folder / model, values.astype(np.float32), 8) for model, values in rows.items()}


def of_tokens(values: object) -> np.ndarray:
    """(n, 1, d) images of one token each, from (n,) or (n, d) values."""
    rows = np.asarray(values, dtype=np.float32)
    return rows.reshape(len(rows), 1, -1)


def same_but_held_out(material: Material, folder: Path, model: str, rows: np.ndarray) -> Material:
    """The material with other held-out activations of one model."""
    store = store_at(folder / f"other {model}", rows.astype(np.float32), 8)
    return replace(material, held_out={**material.held_out, model: store})
