"""Concepts matched by what they do: exact where one SAE is another one renumbered."""

import numpy as np
import pandas as pd
import pytest
import torch

from usae.evidence.metrics.contrast.stability import (
    HeldOutCodes,
    all_matches,
    matched_concepts,
    mean_correlations,
    pair_correlations,
    partners,
)
from usae.sae.universal import UniversalSAE

CPU = torch.device("cpu")
MEANS = {"a": np.zeros(6), "b": np.full(5, 0.5)}


@pytest.fixture
def stores(make_store):
    rng = np.random.default_rng(0)
    return {
        model: make_store(model, rng.normal(size=(60, 4, width)).astype("float16"), 16)
        for model, width in (("a", 6), ("b", 5))
    }


def sae(seed=0, concepts=12):
    torch.manual_seed(seed)
    return UniversalSAE({"a": 6, "b": 5}, concepts, 3).eval()


def renumbered(order):
    """The SAE of seed 0 with its concepts in another order."""
    other, own = sae(), sae()
    for model in other.models:
        theirs, mine = other.part(model), own.part(model)
        theirs.dictionary.weight.data = mine.dictionary.weight.data[order]
        for name in ("weight", "bias"):
            getattr(theirs.encoder.linear, name).data = getattr(mine.encoder.linear, name).data[order]
    return other


def codes(estimator, stores):
    return HeldOutCodes.of(estimator, stores, MEANS, 0.1, CPU)


def test_a_renumbered_sae_comes_back_whole(stores):
    order = np.random.default_rng(1).permutation(12)
    rows = matched_concepts(codes(sae(), stores), codes(renumbered(order), stores), 0.1)
    judged = rows[rows["partner"].notna()]
    assert len(judged) >= 6
    np.testing.assert_array_equal(order[judged["partner"].astype(int)], judged["concept_id"])
    for name in ("correlation", "correlation_least", "jaccard", "cosine"):
        np.testing.assert_allclose(judged[name], 1, atol=1e-6)
    assert (judged["correlation_other"] < 0.9).all()


def test_concepts_with_too_few_fires_are_not_judged(stores):
    one, other = codes(sae(), stores), codes(sae(1), stores)
    rows = matched_concepts(one, other, 0.1)
    rare = one.fires.min(axis=0) < 20
    assert rows.loc[rare, "partner"].isna().all()
    assert rows.loc[rare, "correlation"].isna().all()
    np.testing.assert_array_equal(rows["fires_least"], one.fires.min(axis=0))
    kept = rows["partner"].dropna().astype(int)
    assert kept.is_unique
    assert (other.fires[:, kept].min(axis=0) >= 20).all()


def dense(held, model):
    """(tokens, c) codes of one model."""
    chunks, found = [chunk[model] for chunk in held.chunks], np.zeros((240, 12))
    indices = np.concatenate([chunk.indices.reshape(-1, 3) for chunk in chunks]).astype(int)
    np.put_along_axis(found, indices, np.concatenate([chunk.values.reshape(-1, 3) for chunk in chunks]), 1)
    return found


def correlations(one, other):
    """(models, c, c) by numpy."""
    stacked = [np.hstack([dense(one, model), dense(other, model)]) for model in range(len(one.fires))]
    with np.errstate(invalid="ignore"):
        return np.stack([np.nan_to_num(np.corrcoef(rows.T)[:12, 12:]) for rows in stacked])


def test_correlations_are_those_of_the_dense_codes(stores):
    one, other = codes(sae(), stores), codes(sae(1), stores)
    expected, own = correlations(one, other), np.array([3, 0, 11, 7])
    np.testing.assert_allclose(mean_correlations(one, other), expected.mean(axis=0), atol=1e-9)
    found = pair_correlations(one, other, own, own[::-1])
    np.testing.assert_allclose(found, expected[:, own, own[::-1]], atol=1e-9)


def test_the_matching_has_the_largest_sum_not_the_first_best():
    similarity = np.array([[0.9, 0.8], [0.85, 0.1]])
    own, partner = partners(similarity, np.array([20, 20]), np.array([20, 20]))
    assert dict(zip(own, partner, strict=True)) == {0: 1, 1: 0}
    own, partner = partners(similarity, np.array([19, 20]), np.array([20, 20]))
    assert dict(zip(own, partner, strict=True)) == {1: 0}


def test_every_pair_has_its_rows(stores):
    held = {"usae": codes(sae(), stores), "half-1": codes(sae(1), stores)}
    table = all_matches(held, [("usae", "half-1"), ("half-1", "usae")], 0.1)
    assert table.groupby(["run", "against"]).size().to_dict() == {("half-1", "usae"): 12, ("usae", "half-1"): 12}
    there, back = (part.set_index("concept_id") for _, part in table.groupby("run", sort=False))
    both = there["correlation"].sum(), back["correlation"].sum()
    assert both[0] == pytest.approx(both[1])
    assert isinstance(table, pd.DataFrame)


def test_mean_and_least_are_over_the_models_and_the_mean_is_matched(stores):
    one, other = codes(sae(), stores), codes(sae(1), stores)
    by_model, rows = correlations(one, other), matched_concepts(one, other, 0.1)
    judged = rows[rows["partner"].notna()]
    own, partner = judged["concept_id"].to_numpy(), judged["partner"].to_numpy(dtype=int)
    np.testing.assert_allclose(judged["correlation"], by_model[:, own, partner].mean(axis=0))
    np.testing.assert_allclose(judged["correlation_least"], by_model[:, own, partner].min(axis=0))
    assert not np.allclose(judged["correlation"], judged["correlation_least"])
    expected = partners(by_model.mean(axis=0), one.fires.min(axis=0), other.fires.min(axis=0))
    np.testing.assert_array_equal(np.stack([own, partner]), expected)
    first = partners(by_model[0], one.fires.min(axis=0), other.fires.min(axis=0))
    assert not np.array_equal(first[1], partner)
