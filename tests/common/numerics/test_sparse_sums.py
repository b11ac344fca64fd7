import numpy as np
import pytest
from scipy import sparse

from usae.common.numerics import sparse_sums
from usae.common.numerics.sparse_sums import UNITS, add_products


def codes(seed: int, rows: int, units: int, k: int) -> sparse.csr_array:
    """Up to k codes a row; some rows have none, and the last unit is never used."""
    rng = np.random.default_rng(seed)
    chosen = np.argsort(rng.random((rows, units - 1)), axis=1)[:, :k]
    kept = rng.random(chosen.shape) < 0.8
    kept[::7] = False
    values = rng.gamma(2, 1, chosen.shape)[kept]
    return sparse.csr_array((values, (np.nonzero(kept)[0], chosen[kept])), shape=(rows, units))


@pytest.mark.parametrize("units", [5, UNITS, 3 * UNITS + 1])
def test_bits_are_those_of_the_product_of_sparse_matrices(units):
    left, right = codes(0, 200, units, 4), codes(1, 200, 50, 6)
    total = np.full((units, 50), 0.5)
    add_products(total, left, right)
    np.testing.assert_array_equal(total, 0.5 + (left.T @ right).toarray())


def test_a_unit_on_most_rows_is_summed_in_portions(monkeypatch):
    monkeypatch.setattr(sparse_sums, "ENTRIES", 16)
    left, right = codes(2, 300, 6, 4), codes(3, 300, 9, 3)
    total = np.zeros((6, 9))
    add_products(total, left, right)
    np.testing.assert_allclose(total, (left.T @ right).toarray(), rtol=1e-13)


def test_a_view_is_written_through():
    left = codes(4, 40, 8, 3)
    total = np.zeros((10, 10))
    add_products(total[:8, :8], left, left)
    np.testing.assert_array_equal(total[:8, :8], (left.T @ left).toarray())
    assert not total[8:].any()
    assert not total[:, 8:].any()


def test_rows_without_codes_add_nothing():
    total = np.ones((3, 4))
    add_products(total, sparse.csr_array((5, 3)), sparse.csr_array((5, 4)))
    np.testing.assert_array_equal(total, 1)
