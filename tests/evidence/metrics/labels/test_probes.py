import numpy as np
import pytest
from scipy.optimize import minimize

from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.labels.probes import (
    ProbeSamples,
    TrainingFires,
    best_probe,
    draw_tasks,
    fit_logistic,
    image_peaks,
    log_loss,
)


def chunk(start, dense):
    indices = np.broadcast_to(np.arange(dense.shape[2], dtype=np.uint16), dense.shape)
    return CodeChunk(np.arange(start, start + len(dense)), indices, dense.astype(np.float32))


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_the_regression_is_the_penalised_optimum(scale):
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.4
    values = scale * (rng.normal(size=(60, 3)) + np.array([0, 1, 3]) * positive[:, None])
    weights, offsets = fit_logistic(values, positive)
    for column in range(3):

        def objective(found, x=values[:, column]):
            return found[0] ** 2 / 2 + len(x) * log_loss((x * found[0] + found[1])[:, None], positive)[0]

        best = minimize(objective, [0, 0], method="Nelder-Mead", options={"xatol": 1e-12, "fatol": 1e-13})
        assert objective([weights[column], offsets[column]]) <= best.fun + 1e-9


def test_a_feature_that_says_nothing_costs_ln_2_and_separable_data_stay_finite():
    positive = np.arange(40) % 2 == 0
    weights, offsets = fit_logistic(np.stack([np.zeros(40), 100.0 * positive], axis=1), positive)
    assert weights[0] == pytest.approx(0)
    assert log_loss(np.zeros((40, 1)) * weights[:1] + offsets[:1], positive)[0] == pytest.approx(np.log(2))
    assert np.isfinite([*weights, *offsets]).all()


def test_tasks_are_balanced_split_alike_and_need_enough_images():
    carried = np.zeros((400, 3), dtype=bool)
    carried[:100, 0] = True
    carried[:50, 1] = True
    carried[:340, 2] = True
    tasks = draw_tasks(carried, seed=0)
    assert [task.label for task in tasks] == [0, 2]
    for task, size in zip(tasks, (100, 60), strict=True):
        assert len(set(task.images)) == 2 * size
        np.testing.assert_array_equal(carried[task.images, task.label], task.positive)
        for part, share in enumerate((0.7, 0.15, 0.15)):
            for kind in (True, False):
                assert ((task.part == part) & (task.positive == kind)).sum() == round(share * size)
    again = draw_tasks(carried, seed=0)
    np.testing.assert_array_equal(tasks[0].images, again[0].images)
    assert not np.array_equal(tasks[0].images, draw_tasks(carried, seed=1)[0].images)


def test_the_best_probe_is_chosen_by_validation_and_judged_by_test():
    part = np.repeat([0, 1, 2], 40)
    positive = np.tile([True, False], 60)
    good = np.where(positive, 4.0, 0.0)
    fooled = good.copy()
    fooled[part == 1] = 4 - good[part == 1]  # the same in training, the opposite in validation
    column, loss = best_probe(np.stack([fooled, good], axis=1), positive, part)
    assert column == 1
    assert loss < 0.2


def test_peaks_are_maxima_over_tokens():
    dense = np.random.default_rng(0).random((3, 4, 5))
    np.testing.assert_allclose(image_peaks(chunk(0, dense), 6)[:, :5], dense.max(axis=1), rtol=1e-6)


def test_candidates_fire_most_in_the_training_images_with_the_label():
    """Concept 0 fires in all images but these, 1 in half of them, 2 not above the threshold."""
    carried = (np.arange(240) % 2 == 0)[:, None]
    (task,) = draw_tasks(carried, seed=0)
    training = np.sort(task.images[task.positive & (task.part == 0)])
    dense = np.zeros((240, 1, 3))
    dense[np.setdiff1d(np.arange(240), training), 0, 0] = 1
    dense[training[::2], 0, 1] = 1
    dense[training, 0, 2] = 0.1
    fires = TrainingFires([task], 1, 3, 0.1)
    for start in (0, 100, 200):
        fires.update([chunk(start, dense[start : start + 100])])
    assert fires.counts[0, 0].tolist() == [0, 42, 0]
    assert fires.candidates(2).tolist() == [[[1, 0]]]


def test_probes_find_the_concept_that_knows_the_label():
    rng = np.random.default_rng(0)
    carried = (np.arange(240) % 2 == 0)[:, None]
    dense = rng.random((2, 240, 4, 6)) * 0.5
    dense[0, :, 1, 4] += 3 * carried[:, 0]  # the first model's concept 4 knows it, none of the second's does
    tasks = draw_tasks(carried, seed=0)
    fires = TrainingFires(tasks, 2, 6, 0.4)
    for start in (0, 100, 200):
        fires.update([chunk(start, model[start : start + 100]) for model in dense])
    chosen = fires.candidates(3)
    assert chosen.shape == (1, 2, 3)
    assert chosen[0, 0, 0] == 4
    samples = ProbeSamples(tasks, chosen)
    for start in (0, 100, 200):
        samples.update([chunk(start, model[start : start + 100]) for model in dense])
    frame = samples.frame(("a", "b"), ("label",)).set_index("model")
    assert frame.loc["a", "concept_id"] == 4
    assert frame.loc["a", "log_loss"] < 0.2
    assert frame.loc["b", "log_loss"] > 0.6
    assert frame.loc["a", ["positives", "n"]].tolist() == [18, 36]
