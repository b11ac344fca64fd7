"""Our numbers against those of the authors' code, on the same codes (needs $USAE_GOLDEN; see its README)."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing import counts as u
from usae.evidence.metrics.reconstruction.r2 import Reconstruction, r2

GOLDEN = os.environ.get("USAE_GOLDEN")
pytestmark = pytest.mark.skipif(GOLDEN is None, reason="set USAE_GOLDEN to the folder of the reference results")
EPSILON = 1e-6  # the authors add it to the total mean square
MODELS = {"C": ("a", "b", "c"), "ho": ("vit_tiny", "vit_small", "resnet18")}


@cache
def arrays(name):
    return dict(np.load(Path(str(GOLDEN)) / name))


def answers(case):
    """The authors' answers under common names, the codes they were computed from, and the dictionaries' norms."""
    if case == "C":
        data = arrays("C_metrics.npz")
        codes = [np.broadcast_to(np.arange(64), (300, 64)) for _ in MODELS["C"]]
        chunks = [
            CodeChunk(np.arange(1), i[None], data[f"z_{m}"][None]) for i, m in zip(codes, MODELS["C"], strict=True)
        ]
        energies = np.stack([data[f"energy_{m}"] for m in MODELS["C"]])
        norms = np.stack([np.linalg.norm(data[f"D_{m}"].astype(np.float64), axis=1) for m in MODELS["C"]])
        return data, chunks, energies, norms
    data = {key[3:]: value for key, value in arrays("A_outputs.npz").items() if key.startswith("ho.")}
    chunks = [
        CodeChunk(np.arange(8), data[f"z_idx_{m}"].reshape(8, 196, -1), data[f"z_val_{m}"].reshape(8, 196, -1))
        for m in MODELS["ho"]
    ]
    return data, chunks, np.stack([data[f"energies_{m}"] for m in MODELS["ho"]]), 1.0


def count(chunks, concepts, threshold=0.1):
    firing = u.FiringCounts(3, concepts, threshold)
    firing.update(chunks)
    return firing


@pytest.mark.parametrize("case", ["C", "ho"])
def test_fires_and_cofires_are_equal(case):
    data, chunks, energies, _ = answers(case)
    firing = count(chunks, energies.shape[1])
    for row, model in enumerate(MODELS[case]):
        np.testing.assert_array_equal(firing.fires[row], data[f"fires_thresh_{model}"])
        np.testing.assert_array_equal(firing.active[row], data[f"fires_{model}"])
        assert 100 * (firing.fires[row] == 0).mean() == data[f"dead_pct_thresh_{model}"]
        assert 100 * (firing.active[row] == 0).mean() == data[f"dead_pct_{model}"]
        assert firing.fires[row].sum() == data[f"total_fires_thresh_{model}"]
    np.testing.assert_array_equal(firing.cofires, data["cofire_per_concept"])
    np.testing.assert_array_equal(firing.fires.sum(axis=0), data["union_fires"])


@pytest.mark.parametrize("case", ["C", "ho"])
def test_cofire_proportions_are_equal_and_entropies_within_2e_7(case):
    data, chunks, energies, _ = answers(case)
    firing = count(chunks, energies.shape[1])
    ours = np.nan_to_num(u.cofire_proportion(firing.cofires, firing.fires)).astype(np.float32)
    for row, model in enumerate(MODELS[case]):
        np.testing.assert_array_equal(ours[row], data[f"cofire_proportions_unsorted_{model}"])
    entropy = u.firing_entropy(firing.fires)
    dead = firing.fires.sum(axis=0) == 0
    assert np.isnan(entropy[dead]).all()
    np.testing.assert_allclose(np.where(dead, 0, entropy), data["firing_entropy_unsorted"], rtol=0, atol=2e-7)


@pytest.mark.parametrize("case", ["C", "ho"])
def test_energies_agree_within_3e_7(case):
    data, chunks, energies, norms = answers(case)
    firing = count(chunks, energies.shape[1])
    ours = u.energy(firing.mean_codes, norms)
    np.testing.assert_allclose(ours, energies, rtol=3e-7, atol=0)
    np.testing.assert_allclose(ours.sum(axis=0), data["energies_agg"], rtol=3e-7, atol=0)


def test_the_order_of_energies_is_that_of_the_authors():
    data, chunks, energies, _ = answers("ho")
    firing = count(chunks, energies.shape[1])
    top, theirs = u.top_by_energy(firing.mean_codes, 1000), data["order_by_energy"][:1000]
    np.testing.assert_allclose(data["energies_agg"][top], data["energies_agg"][theirs], rtol=3e-7)


def test_edge_cases_of_single_concepts():
    _, chunks, energies, _ = answers("C")
    firing = count(chunks, energies.shape[1])
    entropy, fires, cofires = u.firing_entropy(firing.fires), firing.fires, firing.cofires
    assert np.isnan(entropy[0])  # dead everywhere; the authors report 0
    assert entropy[1] == 0  # fires in one model only
    assert entropy[2] == pytest.approx(0.6309, abs=0.01)  # in two of three
    assert fires[:, 3].tolist() == [0, 0, 0]  # exactly float32(0.1): not above the threshold
    assert firing.active[:, 3].min() > 0
    assert fires[:, 4].tolist() == [300, 300, 300]  # one unit in the last place above it
    assert entropy[4] == pytest.approx(1)
    assert u.cofire_proportion_min(cofires, fires)[4] == 1
    assert cofires[6] == 1


def test_r2_of_the_small_example_and_of_a_constant():
    data = arrays("C_metrics.npz")
    table = Reconstruction("usae", "val")
    table.update("x", data["r2_x"], [("x", data["r2_xhat"])])
    assert r2(table.residuals["x", "x"], table.moments["x"], "scalar", EPSILON) == pytest.approx(
        data["r2"], abs=2e-7
    )
    constant = Reconstruction("usae", "val")
    constant.update("x", np.full((4, 3), 2.0), [("x", np.full((4, 3), 2.5))])
    found = r2(constant.residuals["x", "x"], constant.moments["x"], "scalar", EPSILON)
    assert found == pytest.approx(float(data["r2_constant_x"]), rel=1e-7)


def test_the_held_out_r2_matrix_from_codes_and_dictionaries():
    inputs, outputs = arrays("A_inputs.npz"), arrays("A_outputs.npz")
    models = MODELS["ho"]
    table = Reconstruction("usae", "val")
    codes = {m: dense(outputs[f"ho.z_idx_{m}"], outputs[f"ho.z_val_{m}"]) for m in models}
    for target in models:
        raw = inputs[f"act_{target}"][inputs["held_out"]].astype(np.float32)
        truth = (raw - inputs[f"mean_{target}"]) / (inputs[f"std_{target}"] + np.float32(1e-5))
        weights = outputs[f"final_{target}.dictionary._weights"]
        rows = weights / (np.linalg.norm(weights, axis=1, keepdims=True) + 1e-8)
        guesses = [(m, (codes[m] @ rows).reshape(truth.shape)) for m in models]
        table.update(target, truth, guesses)
    for i, source in enumerate(models):
        for j, target in enumerate(models):
            pair = table.residuals[source, target], table.moments[target]
            assert r2(*pair, "scalar", EPSILON) == pytest.approx(outputs["R2_eval_held_out"][i, j], abs=2e-7)
            expected = outputs["R2_eval_perchannelmean_held_out"][i, j]
            assert r2(*pair, "channel") == pytest.approx(expected, abs=2e-7)


def dense(indices, values):
    codes = np.zeros((len(indices), 1024), dtype=np.float32)
    np.put_along_axis(codes, indices.astype(np.int64), values, axis=1)
    return codes
