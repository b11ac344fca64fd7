"""Our numbers against those of the authors' code, on the same codes (`tests/golden/README.md`)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support.golden import Arrays, TrainingSet, arrays, ends, training_sets
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing import counts as u
from usae.evidence.metrics.reconstruction.r2 import Reconstruction, r2

EPSILON = 1e-6  # the authors add it to the total mean square


@dataclass(frozen=True)
class Case:
    """Codes of some models, the authors' answers by name, their energies (m, c), and the dictionaries' norms."""

    models: list[str]
    chunks: list[CodeChunk]
    answers: Arrays
    energies: np.ndarray
    norms: np.ndarray | float

    @property
    def firing(self) -> u.FiringCounts:
        firing = u.FiringCounts(len(self.models), self.energies.shape[1], 0.1)
        firing.update(self.chunks)
        return firing


def of_codes(path: Path) -> Case:
    """Dense codes and dictionaries that were made by hand."""
    data = arrays(path)
    models = [str(model) for model in data["models"]]
    codes = [data[f"z_{m}"][None] for m in models]  # (1, tokens, concepts)
    indices = np.broadcast_to(np.arange(codes[0].shape[2]), codes[0].shape)
    norms = np.stack([np.linalg.norm(data[f"D_{m}"].astype(np.float64), axis=1) for m in models])
    chunks = [CodeChunk(np.arange(1), indices, values) for values in codes]
    return Case(models, chunks, data, np.stack([data[f"energy_{m}"] for m in models]), norms)


def of_training(golden: TrainingSet) -> Case:
    """The codes of the held-out images after training; concepts have norm 1."""
    data = {key[3:]: value for key, value in golden.outputs.items() if key.startswith("ho.")}
    images = np.arange(len(golden.inputs["held_out"]))
    chunks = [
        CodeChunk(images, *(data[f"{part}_{m}"].reshape(len(images), -1, golden.k) for part in ("z_idx", "z_val")))
        for m in golden.models
    ]
    return Case(list(golden.models), chunks, data, np.stack([data[f"energies_{m}"] for m in golden.models]), 1.0)


OPENED = {path.stem: (of_codes, path) for path in ends("metrics")}
OPENED |= {golden.path.stem: (of_training, golden) for golden in training_sets()}


@pytest.fixture(scope="module", params=OPENED.values(), ids=OPENED)
def case(request) -> Case:
    opened, where = request.param
    return opened(where)


@pytest.fixture(scope="module", params=ends("metrics"), ids=lambda path: path.stem)
def edges(request) -> Case:
    return of_codes(request.param)


@pytest.fixture(scope="module", params=training_sets(), ids=lambda golden: golden.path.stem)
def golden(request) -> TrainingSet:
    return request.param


def test_fires_and_cofires_are_equal(case):
    firing, answers = case.firing, case.answers
    for row, model in enumerate(case.models):
        np.testing.assert_array_equal(firing.fires[row], answers[f"fires_thresh_{model}"])
        np.testing.assert_array_equal(firing.active[row], answers[f"fires_{model}"])
        assert 100 * (firing.fires[row] == 0).mean() == answers[f"dead_pct_thresh_{model}"]
        assert 100 * (firing.active[row] == 0).mean() == answers[f"dead_pct_{model}"]
        assert firing.fires[row].sum() == answers[f"total_fires_thresh_{model}"]
    np.testing.assert_array_equal(firing.cofires, answers["cofire_per_concept"])
    np.testing.assert_array_equal(firing.fires.sum(axis=0), answers["union_fires"])


def test_cofire_proportions_are_equal_and_entropies_within_2e_7(case):
    firing, answers = case.firing, case.answers
    ours = np.nan_to_num(u.cofire_proportion(firing.cofires, firing.fires)).astype(np.float32)
    for row, model in enumerate(case.models):
        np.testing.assert_array_equal(ours[row], answers[f"cofire_proportions_unsorted_{model}"])
    entropy = u.firing_entropy(firing.fires)
    dead = firing.fires.sum(axis=0) == 0
    assert np.isnan(entropy[dead]).all()
    np.testing.assert_allclose(np.where(dead, 0, entropy), answers["firing_entropy_unsorted"], rtol=0, atol=2e-7)


def test_energies_agree_within_3e_7(case):
    ours = u.energy(case.firing.mean_codes, case.norms)
    np.testing.assert_allclose(ours, case.energies, rtol=3e-7, atol=0)
    np.testing.assert_allclose(ours.sum(axis=0), case.answers["energies_agg"], rtol=3e-7, atol=0)


def test_the_order_of_energies_is_that_of_the_authors(golden):
    case = of_training(golden)
    most = int(0.95 * golden.concepts)  # the last ones have hardly any energy
    top, theirs = u.top_by_energy(case.firing.mean_codes, most), case.answers["order_by_energy"][:most]
    energies = case.answers["energies_agg"]
    np.testing.assert_allclose(energies[top], energies[theirs], rtol=3e-7)


def test_edge_cases_of_single_concepts(edges):
    firing, tokens = edges.firing, edges.chunks[0].tokens
    entropy, fires, cofires = u.firing_entropy(firing.fires), firing.fires, firing.cofires
    assert np.isnan(entropy[0])  # dead everywhere; the authors report 0
    assert entropy[1] == 0  # fires in one model only
    assert entropy[2] == pytest.approx(0.6309, abs=0.01)  # in two of three
    assert fires[:, 3].tolist() == [0, 0, 0]  # exactly float32(0.1): not above the threshold
    assert firing.active[:, 3].min() > 0
    assert fires[:, 4].tolist() == [tokens] * 3  # one unit in the last place above it
    assert entropy[4] == pytest.approx(1)
    assert u.cofire_proportion_min(cofires, fires)[4] == 1
    assert fires[:, 5].tolist() == [0, 0, 0]  # alive, and always below
    assert cofires[6] == 1
    assert edges.energies[:, 7].tolist() == edges.energies[:, 8].tolist()  # a tie


def test_r2_of_the_small_example_and_of_a_constant(edges):
    data = edges.answers
    table = Reconstruction("usae", "val")
    table.update("x", data["r2_x"], [("x", data["r2_xhat"])])
    assert r2(table.residuals["x", "x"], table.moments["x"], "scalar", EPSILON) == pytest.approx(
        data["r2"], abs=2e-7
    )
    constant = Reconstruction("usae", "val")
    constant.update("x", np.full((4, 3), 2.0), [("x", np.full((4, 3), 2.5))])
    found = r2(constant.residuals["x", "x"], constant.moments["x"], "scalar", EPSILON)
    assert found == pytest.approx(float(data["r2_constant_x"]), rel=1e-7)


def test_the_held_out_r2_matrix_from_codes_and_dictionaries(golden):
    inputs, outputs, models = golden.inputs, golden.outputs, golden.models
    table = Reconstruction("usae", "val")
    codes = {m: dense(golden, m) for m in models}
    for target in models:
        raw = inputs[f"act_{target}"][inputs["held_out"]].astype(np.float32)
        truth = (raw - inputs[f"mean_{target}"]) / (inputs[f"std_{target}"] + np.float32(1e-5))
        weights = outputs[f"final_{target}.dictionary._weights"]
        rows = weights / (np.linalg.norm(weights, axis=1, keepdims=True) + 1e-8)
        table.update(target, truth, [(m, (codes[m] @ rows).reshape(truth.shape)) for m in models])
    for i, source in enumerate(models):
        for j, target in enumerate(models):
            pair = table.residuals[source, target], table.moments[target]
            assert r2(*pair, "scalar", EPSILON) == pytest.approx(outputs["R2_eval_held_out"][i, j], abs=2e-7)
            expected = outputs["R2_eval_perchannelmean_held_out"][i, j]
            assert r2(*pair, "channel") == pytest.approx(expected, abs=2e-7)


def dense(golden: TrainingSet, model: str) -> np.ndarray:
    """(tokens, concepts) the held-out codes of a model."""
    indices, values = (golden.outputs[f"ho.{part}_{model}"] for part in ("z_idx", "z_val"))
    codes = np.zeros((len(indices), golden.concepts), dtype=np.float32)
    np.put_along_axis(codes, indices.astype(np.int64), values, axis=1)
    return codes
