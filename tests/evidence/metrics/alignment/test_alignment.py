from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import ortho_group

from usae.common.numerics.correlation import CrossCorrelation
from usae.common.tables import write_table
from usae.evidence.codes.rows import code_rows
from usae.evidence.codes.store import CodeStore
from usae.evidence.metrics.alignment.alignment import alignment_frame
from usae.evidence.metrics.alignment.buddies import best_buddies, rosetta_units
from usae.evidence.metrics.alignment.pairings import ScaledRows, correlations
from usae.evidence.metrics.alignment.rows import ActivationSource, CodeSource
from usae.evidence.metrics.alignment.similarity import Similarity, linear_cka, mutual_knn, neighbours, prepared
from usae.evidence.metrics.alignment.tables import ALIGNMENT


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@dataclass
class Fixed:
    """Codes [images, tokens, units] in memory."""

    codes: np.ndarray

    @property
    def units(self):
        return self.codes.shape[2]

    @property
    def tokens(self):
        return self.codes.shape[1]

    def rows(self, images):
        return sparse.csr_array(self.codes[images].reshape(-1, self.units).astype(np.float64))


def orders(rng, rows, count=40):
    return [rng.permutation(rows) for _ in range(count)]


def dense_cka(left, right):
    """Biased and unbiased, straight from the definitions."""

    def biased(k, m):
        centre = np.eye(len(k)) - 1 / len(k)
        return np.trace(k @ centre @ m @ centre)

    def unbiased(k, m):
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        total = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m).sum() / (n - 2)
        return ((k * m.T).sum() + total) / (n * (n - 3))

    k, m = left @ left.T, right @ right.T
    return [f(k, m) / np.sqrt(f(k, k) * f(m, m)) for f in (biased, unbiased)]


def test_cka_of_a_rotation_is_one(rng):
    features = rng.normal(size=(50, 7)) + 3
    for score in linear_cka(features, 2 * features @ ortho_group.rvs(7, random_state=1), orders(rng, 50)):
        assert score.value == pytest.approx(1, abs=1e-12)
        assert score.calibrated == pytest.approx(1, abs=1e-12)
        assert score.p == 1 / 41


def test_cka_and_its_permutations_follow_the_definitions(rng):
    left, right = rng.normal(size=(30, 5)) + 2, rng.normal(size=(30, 8)) - 1
    right[:, :3] += left[:, :3]
    shuffles = orders(rng, 30, 5)
    scores = linear_cka(left, right, shuffles)
    null = np.array([dense_cka(left, right[order]) for order in shuffles])
    for kind, score in enumerate(scores):
        assert score.value == pytest.approx(dense_cka(left, right)[kind], abs=1e-12)
        assert score.null_mean == pytest.approx(null[:, kind].mean(), abs=1e-12)
        assert score.null_sd == pytest.approx(null[:, kind].std(ddof=1), abs=1e-12)


def test_unbiased_cka_of_independent_rows_is_about_zero_where_the_biased_is_not(rng):
    left, right = rng.normal(size=(200, 150)), rng.normal(size=(200, 150))
    biased, unbiased = linear_cka(left, right, orders(rng, 200, 100))
    assert biased.value > 0.4
    assert abs(unbiased.value) < 0.03
    assert abs(biased.calibrated) < 0.03
    assert min(biased.p, unbiased.p) > 0.01


def test_mutual_knn_of_independent_rows_is_chance_and_of_equal_rows_one(rng):
    left, right = (neighbours(prepared(rng.normal(size=(500, 20)))) for _ in range(2))
    score = mutual_knn(left, right, orders(rng, 500))
    assert score.value == pytest.approx(10 / 499, abs=0.006)
    assert score.null_mean == pytest.approx(10 / 499, abs=0.001)
    assert mutual_knn(left, left, orders(rng, 500)).value == 1


def test_mutual_knn_of_a_permutation_is_that_of_permuted_rows(rng):
    left, right = rng.normal(size=(40, 4)), rng.normal(size=(40, 6))
    shuffles = orders(rng, 40, 3)
    found = mutual_knn(neighbours(left, 5), neighbours(right, 5), shuffles).null_mean
    each = [mutual_knn(neighbours(left, 5), neighbours(right[order], 5), shuffles).value for order in shuffles]
    assert found == pytest.approx(np.mean(each), abs=1e-12)


def test_neighbours_are_the_largest_inner_products_without_the_row_itself():
    features = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    assert neighbours(features, 1).ravel().tolist() == [1, 0, 3, 2]


def test_features_are_clamped_at_the_quantile_of_what_is_not_zero():
    features = np.zeros((3, 40))
    features[0, :20] = np.arange(1, 21)
    features[1, 0] = -5
    rows = prepared(features)
    limit = np.quantile([*range(1, 21), 5], 0.95)
    expected = np.minimum(features[0], limit)
    np.testing.assert_allclose(rows[0], expected / np.linalg.norm(expected))
    assert rows[1, 0] == -1
    assert not rows[2].any()


def test_scores_are_calibrated_against_their_null():
    score = Similarity.against(0.6, np.array([0.1, 0.3, 0.2]))
    assert score.calibrated == pytest.approx((0.6 - 0.2) / 0.8)
    assert score.p == 0.25
    assert Similarity.against(0.2, np.array([0.1, 0.3, 0.2])).p == 0.75


def test_streamed_correlations_are_numpys_dense_and_sparse(rng, chunks, dense):
    parts = chunks(2)
    sums, half = CrossCorrelation(12, 12), CrossCorrelation(12, 12)
    for number, (one, other) in enumerate(parts):
        (sums if number else half).update(code_rows(one, 12), code_rows(other, 12))
    sums.merge(half)
    rows = dense(parts).reshape(2, -1, 12).astype(np.float64)
    full = CrossCorrelation(12, 12)
    full.update(rows[0], rows[1])
    np.testing.assert_allclose(sums.correlations, full.correlations, atol=1e-12)
    expected = np.corrcoef(rows[0][:, :11].T, rows[1][:, :11].T)[:11, 11:]
    np.testing.assert_allclose(full.correlations[:11, :11], expected, atol=1e-10)
    assert not full.correlations[11].any()


@pytest.mark.parametrize("full", [0, 1000])  # products of codes by sparse rows, by dense ones
def test_correlations_of_re_paired_images_are_those_of_rows_that_were_moved(
    rng, chunks, dense, make_store, full, monkeypatch
):
    """Dense and sparse; model i shows the images moved i times."""
    monkeypatch.setattr("usae.evidence.metrics.alignment.pairings.FULL", full)
    activations = {
        name: rng.normal(5, 2, (11, 9, width)).astype(np.float32)
        for name, width in zip("abc", (4, 5, 6), strict=True)
    }
    activations["b"][..., 2] = 3  # never changes
    sources = {name: ActivationSource(make_store(name, rows, 4)) for name, rows in activations.items()}
    codes = dict(zip("abc", dense(chunks(3)), strict=True))
    order = rng.permutation(11)
    images = np.arange(11)
    moves = dict(zip("abc", (images, order, order[order]), strict=True))
    for space, scaled in (
        (activations, {name: ScaledRows.of(source, images) for name, source in sources.items()}),
        (codes, {name: ScaledRows.of(Fixed(rows), images) for name, rows in codes.items()}),
    ):
        for (one, other), found in correlations(scaled, order):
            expected = CrossCorrelation(space[one].shape[2], space[other].shape[2])
            expected.update(*(space[name][moves[name]].reshape(99, -1) for name in (one, other)))
            np.testing.assert_allclose(found, expected.correlations, atol=1e-6)
            assert found[:, -1].any() == (space is activations)  # the last concept is unused


def test_best_buddies_are_mutual_and_looser_ones_may_share():
    correlations = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.0]])
    mutual = best_buddies(correlations)
    assert list(zip(mutual.left.tolist(), mutual.right.tolist(), strict=True)) == [(0, 0), (2, 1)]
    assert mutual.median == pytest.approx(0.6)
    loose = best_buddies(correlations, 5)
    assert list(zip(loose.left.tolist(), loose.right.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 1)]


def test_rosetta_units_close_in_every_pair():
    correlations = {("a", "b"): np.eye(3), ("a", "c"): np.eye(3), ("b", "c"): np.eye(3)[[1, 0, 2]]}
    assert rosetta_units(correlations, ("a", "b", "c")).tolist() == [[2, 2, 2]]
    assert rosetta_units({("a", "b"): np.eye(2)[::-1]}, ("a", "b")).tolist() == [[0, 1], [1, 0]]


def test_the_table_finds_what_two_models_share(rng, make_store, tmp_path):
    causes = rng.normal(size=(60, 4, 6))
    maps = [ortho_group.rvs(6, random_state=seed) for seed in (0, 1)]
    spaces = {"activations": {}, "codes": {}}
    for name, rotation in zip("ab", maps, strict=True):
        store = make_store(name, (causes @ rotation).astype(np.float16), 16)
        spaces["activations"][name] = ActivationSource(store)
        codes = CodeStore.create(
            tmp_path / f"codes-{name}", model=name, sae="usae", images=60, grid=2, k=3, concepts=6, chunk_images=16
        )
        order = np.argsort(-causes, axis=2)[..., :3]
        values = np.maximum(np.take_along_axis(causes, order, axis=2), 0)
        for chunk in range(codes.chunks):
            part = slice(16 * chunk, min(16 * chunk + 16, 60))
            codes.write(chunk, order[part], values[part])
        spaces["codes"][name] = CodeSource(codes)
    frame = alignment_frame(spaces, 60, sample=48, permutations=30, seed=0)
    write_table(ALIGNMENT, frame, tmp_path / "alignment.parquet")
    table = frame.set_index(["measure", "space"])
    assert table.loc["cka", "activations, image means"]["value"] == pytest.approx(1, abs=1e-4)
    assert table.loc["mutual_knn", "activations, tokens"]["value"] > 0.9
    assert table.loc["buddies", "codes, all tokens"]["value"] == 1
    assert table.loc["buddy_correlation", "codes, all tokens"]["value"] == pytest.approx(1)
    assert table.loc["buddy_correlation", "codes, all tokens"]["null_mean"] < 0.3
    assert table.loc["rosetta", "codes, all tokens"]["value"] == 1
    measured = table.drop(index=["buddies", "buddies_5", "rosetta"], level=0)
    assert (measured["p"] == 1 / 31).all()
    again = alignment_frame(spaces, 60, sample=48, permutations=30, seed=0)
    assert frame.equals(again)
