import numpy as np
import pytest
import torch

from usae.errors import UserError
from usae.sampling import PairedActivations, check_batch, order


@pytest.fixture
def stores(make_store):
    rng = np.random.default_rng(0)
    return [
        make_store(name, rng.normal(size=(11, 4, width)).astype("float16")) for name, width in (("a", 3), ("b", 5))
    ]


def test_rows_are_all_tokens_of_the_images_in_order(stores):
    data = PairedActivations(stores)
    images = np.array([10, 0, 5])
    for store, rows in zip(stores, data.rows(images), strict=True):
        whole = np.concatenate([store.chunk(j) for j in range(store.chunks)]).astype(np.float32)
        np.testing.assert_array_equal(rows.numpy(), whole[images].reshape(-1, store.width))


def test_batches_cover_the_epoch_once(stores):
    data = PairedActivations(stores)
    images = order(seed=3, epoch=1, images=11)
    batches = list(data.batches(images, 4, epoch=1, first_step=3))
    assert [b.step for b in batches] == [3, 4, 5]
    assert sorted(np.concatenate([b.images for b in batches])) == list(range(11))
    for batch in batches:
        for found, expected in zip(batch.activations, data.rows(batch.images), strict=True):
            assert torch.equal(found, expected)


def test_the_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(order(0, 1, 50), order(0, 1, 50))
    assert not np.array_equal(order(0, 1, 50), order(0, 2, 50))
    assert not np.array_equal(order(0, 1, 50), order(1, 1, 50))


def test_shuffled_pairs_keep_the_first_model_and_re_pair_the_others(stores):
    matched, shuffled = PairedActivations(stores), PairedActivations(stores, "shuffled", seed=1)
    images = np.arange(11)
    assert torch.equal(matched.rows(images)[0], shuffled.rows(images)[0])
    a, b = matched.rows(images)[1].unflatten(0, (11, 4)), shuffled.rows(images)[1].unflatten(0, (11, 4))
    partner = [next(j for j in range(11) if torch.equal(a[j], row)) for row in b]
    assert sorted(partner) == list(range(11))
    assert partner != list(range(11))


def test_a_batch_larger_than_the_set():
    with pytest.raises(UserError, match="`train.batch_images` is 32, but there are only 11 training images"):
        check_batch(32, 11)
