"""What comes back from another start: of the universal SAE the numbers of stage `contrast`, of others the same."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support import contrasted
from usae.evidence.metrics.contrast.numbers import stability_numbers
from usae.evidence.metrics.contrast.stability import HeldOutCodes, matched_concepts
from usae.evidence.metrics.funnel import Thresholds
from usae.methods.comparison.again import concepts_again, means_again, universal_again
from usae.methods.joint.sae import SparcSAE

CPU = torch.device("cpu")
MEANS = {"a": np.zeros(6), "b": np.full(6, 0.5)}


@pytest.fixture
def stores(make_store):
    rng = np.random.default_rng(0)
    return {model: make_store(model, rng.normal(size=(60, 4, 6)).astype("float16"), 16) for model in "ab"}


def sae_of(seed, order=range(12)):
    """Concepts in another order are the same concepts."""
    torch.manual_seed(seed)
    sae = SparcSAE({"a": 6, "b": 6}, 12, 3).eval()
    for model in sae.models:
        part = sae.part(model)
        for weight in (part.dictionary.weight, part.encoder.linear.weight, part.encoder.linear.bias):
            weight.data = weight.data[list(order)]
    return sae


@pytest.fixture
def stability():
    """Table `stability`; another seed before the first step, too."""
    table = contrasted.stability().assign(jaccard=0.5, cosine=0.4)
    seed = table[table["against"] == "seed-1"]
    before = seed.assign(start=True, correlation=seed["correlation"] - 0.3)
    return pd.concat([table, before], ignore_index=True)


def test_of_the_universal_sae_they_are_the_numbers_of_its_controls(stability):
    controls = stability_numbers(stability, Thresholds(0.1))
    expected = controls[controls["run"] == "seed-1"].set_index("measure")
    assert universal_again(stability, start=False) == {**expected["value"], "judged": 3}
    assert universal_again(stability, start=True) == {**expected["start"], "judged": 3}
    assert universal_again(stability[stability["against"] != "seed-1"], start=False) == {}


def test_they_are_means_over_the_other_starts(stores):
    saes = [sae_of(0), sae_of(0, range(11, -1, -1)), sae_of(1)]
    again = concepts_again(saes, stores, MEANS, 0.1, CPU)
    first, _, last = (HeldOutCodes.of(each, stores, MEANS, 0.1, CPU) for each in saes)
    other = means_again(matched_concepts(first, last, 0.1).assign(against="seed-2"))
    assert list(again) == ["comes_back_share", "correlation_mean", "jaccard_mean", "cosine_mean", "judged"]
    expected = {name: (1 + value) / 2 for name, value in other.items()}
    own = matched_concepts(first, first, 0.1)["partner"].notna().sum()
    assert again == pytest.approx(expected | {"judged": (own + other["judged"]) / 2}, abs=1e-6)
    assert other["comes_back_share"] < 1
