import numpy as np
import pytest

from usae.common.numerics.matching import concatenated, matching, random_matching
from usae.evidence.metrics.dictionaries.consistency import above, auc, consistency_frame, survival


def dictionary(concepts, width, seed=0):
    return np.random.default_rng(seed).standard_normal((concepts, width))


def test_a_reordered_dictionary_is_matched_whole():
    rows = dictionary(40, 12)
    order = np.random.default_rng(1).permutation(40)
    partner, cosine = matching(rows, 3 * rows[order])
    np.testing.assert_array_equal(order[partner], np.arange(40))
    np.testing.assert_allclose(cosine, 1)


def test_the_sum_counts_and_not_the_first_best():
    """Greedily, row 0 takes column 0 (cosine 1) and leaves row 1 with 0; together 0.8 + 0.96 is more."""
    rows = np.array([[1.0, 0.0], [0.96, 0.28]])
    others = np.array([[1.0, 0.0], [0.8, -0.6]])
    partner, cosine = matching(rows, others)
    assert partner.tolist() == [1, 0]
    np.testing.assert_allclose(cosine, [0.8, 0.96])


def test_dictionaries_of_different_sizes():
    rows = dictionary(10, 8)
    partner, cosine = matching(rows, rows[:4])
    assert partner[:4].tolist() == [0, 1, 2, 3]
    assert (partner[4:] == -1).all()
    assert np.isnan(cosine[4:]).all()
    assert matching(rows[:4], rows)[0].tolist() == [0, 1, 2, 3]


def test_curve_and_its_area():
    cosines = np.array([-0.2, 0.1, 0.5, 0.9])
    assert auc(cosines) == pytest.approx(1.5 / 4)
    assert above(cosines) == 0.25
    assert survival(cosines, np.array([0, 0.4, 1])).tolist() == [0.75, 0.5, 0]
    fine = np.linspace(0, 1, 20001)
    assert np.trapezoid(survival(cosines, fine), fine) == pytest.approx(auc(cosines), abs=1e-4)
    assert np.isnan(auc(np.array([])))
    assert np.isnan(above(np.array([])))


@pytest.mark.parametrize(("width", "expected"), [(192, 0.2310), (96, 0.3232)])
def test_random_dictionaries_match_better_when_narrow(width, expected):
    """Measured at 1536 concepts over five seeds; at the paper's 6144 see `test_the_papers_baseline`."""
    assert random_matching(1536, width, 0).mean() == pytest.approx(expected, abs=0.0015)


@pytest.mark.slow
def test_the_papers_baseline():
    assert auc(random_matching(6144, 384, 0)) == pytest.approx(0.183, abs=0.0006)


def test_concatenation_weighs_models_alike_and_serves_seeds():
    wide, narrow = 100 * dictionary(30, 16, 1), dictionary(30, 4, 2)
    whole = concatenated([wide, narrow])
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1)
    other = concatenated([wide, dictionary(30, 4, 3)])
    np.testing.assert_allclose(
        whole @ other.T,
        (concatenated([wide]) @ concatenated([wide]).T + concatenated([narrow]) @ other[:, 16:].T * 2**0.5) / 2,
    )
    order = np.random.default_rng(4).permutation(30)
    assert (matching(whole, concatenated([wide[order], narrow[order]]))[0] == np.argsort(order)).all()


def test_the_frame_has_a_baseline_of_the_same_size_for_every_model():
    universal = {"a": dictionary(20, 6, 0), "b": dictionary(20, 9, 1), "c": dictionary(20, 6, 2)}
    independent = {model: rows[::-1] for model, rows in universal.items()}
    start = {model: -rows for model, rows in universal.items()}
    frame = consistency_frame({"usae": universal, "start": start}, independent, 0)
    assert len(frame) == 3 * 3 * 20
    assert set(frame.loc[frame["against"] == "gaussian", "sae"]) == {"usae"}
    found = frame[(frame["against"] == "independent") & (frame["sae"] == "usae")]
    assert (frame.loc[frame["sae"] == "start", "cosine"] < 0.99).all()
    assert found["partner"].tolist() == 3 * list(range(19, -1, -1))
    np.testing.assert_allclose(found["cosine"], 1)
    floor = frame[frame["against"] == "gaussian"].set_index("model")
    assert floor["partner"].isna().all()
    np.testing.assert_array_equal(floor.loc["a", "cosine"], floor.loc["c", "cosine"])
    np.testing.assert_array_equal(floor.loc["a", "cosine"], random_matching(20, 6, 0))
    assert floor.loc["a", "cosine"].mean() > floor.loc["b", "cosine"].mean()
    assert consistency_frame({"usae": universal}, {}, 0).empty
