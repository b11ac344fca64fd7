import numpy as np
import pytest

from usae.common.numerics.procrustes import procrustes
from usae.common.numerics.ridge import Products

X = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
Q = np.array([[0.0, 1], [-1, 0]])


def fitted(x, y):
    sums = Products.none(np.full(x.shape[1] + y.shape[1], 0.5))
    sums.update(np.concatenate([x, y], axis=1))
    return procrustes(sums, slice(0, x.shape[1]), slice(x.shape[1], None))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_rotation_and_its_scale_are_found(scale):
    found = fitted(X, scale * X @ Q)
    np.testing.assert_allclose(found.weights, scale * Q, atol=1e-12)
    np.testing.assert_allclose(found.offset, 0, atol=1e-12)


def test_means_go_to_means():
    moved = X + np.array([3.0, -1.0])
    found = fitted(moved, X @ Q + 5)
    np.testing.assert_allclose(found.weights, Q, atol=1e-12)
    np.testing.assert_allclose(found(moved), X @ Q + 5, atol=1e-12)


def test_a_narrower_model_is_padded():
    wide = X @ np.array([[0.0, 1, 0], [0, 0, -1]])
    np.testing.assert_allclose(fitted(X, wide)(X), wide, atol=1e-12)
    np.testing.assert_allclose(fitted(wide, X)(wide), X, atol=1e-12)


def test_the_scale_is_of_all_the_source_has():
    """Half of the source's variance is lost in padding: the scale is half as large."""
    source = np.concatenate([np.concatenate([X, 0 * X], axis=1), np.concatenate([0 * X, X], axis=1)])
    target = np.concatenate([X, 0 * X])
    np.testing.assert_allclose(np.linalg.svd(fitted(source, target).weights)[1], 0.5, atol=1e-12)


def test_a_source_that_never_changes_gives_the_mean():
    found = fitted(0 * X, X + 2)
    np.testing.assert_allclose(found(0 * X), 2, atol=1e-12)
