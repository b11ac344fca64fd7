"""Does a method look at what it has to tell? It is fitted anew with noise as one model's held-out tokens."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.support.materials import same_but_held_out
from usae.activations.store import ActivationStore
from usae.evidence.codes.encoding import code_chunk
from usae.evidence.metrics.reconstruction.passes import decoded, standardised
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.sae.estimator import Concepts

FOUND_IN_NOISE = 0.25  # R2 that nothing can have of independent noise

Fit = Callable[[Material], list[Reading]]


def assert_no_leak(fit: Fit, material: Material, folder: Path) -> None:
    """Codes of i, and R2 from i to all but j, do not depend on j's held-out tokens; and noise stays noise."""
    before = fit(material)
    for place, model in enumerate(material.models):
        store = material.held_out[model]
        noise = np.random.default_rng([2026, place]).normal(size=(store.images, store.tokens, store.width))
        other = same_but_held_out(material, folder, model, 3 * noise)
        for one, two in zip(before, fit(other), strict=True):
            assert one.form == two.form
            _assert_same(one, two, material, other, model)


def _assert_same(one: Reading, two: Reading, material: Material, other: Material, noisy: str) -> None:
    for source in set(material.models) - {noisy}:
        store = material.held_out[source]
        if one.concepts is not None and two.concepts is not None:
            codes, again = (_codes(each, source, store) for each in (one.concepts, two.concepts))
            assert np.array_equal(codes, again), f"{one.form}: codes of {source} know {noisy}'s held-out tokens"
        r2 = {target: _r2(one, material, source, target) for target in material.models}
        for target, value in r2.items():
            found = _r2(two, other, source, target)
            if target == noisy:
                assert np.isnan(found) or found < FOUND_IN_NOISE, f"{one.form}: {source} tells {noisy}'s noise"
            else:
                np.testing.assert_allclose(found, value, atol=1e-6, err_msg=f"{one.form}: {source} to {target}")


def _codes(concepts: Concepts, model: str, store: ActivationStore) -> np.ndarray:
    chunk = code_chunk(concepts, model, np.asarray(store.take(range(store.images))), np.arange(store.images),
                       torch.device("cpu"))  # fmt: skip
    return np.stack([chunk.indices, chunk.values])


def _r2(reading: Reading, material: Material, source: str, target: str) -> float:
    """As given, else of the codes; NaN where the method has neither."""
    if (source, target) in reading.r2 or reading.concepts is None:
        return reading.r2.get((source, target), float("nan"))
    return codes_r2(reading.concepts, material, source, target)


def codes_r2(concepts: Concepts, material: Material, source: str, target: str) -> float:
    """Held-out R2 about the channel means, in one go."""
    images = np.arange(material.held_out[source].images)
    raw = np.asarray(material.held_out[source].take(images))
    chunk = code_chunk(concepts, source, raw, images, torch.device("cpu"))
    truth = standardised(concepts, target, material.held_out[target], images).astype(np.float64)
    ((_, guess),) = decoded(concepts, target, {source: chunk})
    total = ((truth - truth.mean(axis=(0, 1))) ** 2).sum()
    return float(1 - ((truth - guess) ** 2).sum() / total)
