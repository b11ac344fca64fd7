import os

import numpy as np
import pytest

from usae.activations.sampling import PairedActivations


@pytest.fixture
def stores(make_store):
    rng = np.random.default_rng(0)
    return {
        name: make_store(name, rng.normal(size=(11, 4, width)).astype(dtype), chunk_images)
        for name, width, dtype, chunk_images in (("a", 3, "float16", 4), ("b", 5, "float32", 2))
    }


def whole(store):
    return np.concatenate([store.chunk(j) for j in range(store.chunks)]).astype(np.float32)


def test_rows_are_all_tokens_of_the_images_in_order(stores):
    data = PairedActivations(stores)
    assert (data.images, data.tokens, data.models, data.chunk_images) == (11, 4, ("a", "b"), 4)
    assert data.bytes == 11 * 4 * (3 * 2 + 5 * 4)
    for images in (np.array([10, 0, 5, 5]), np.array([3]), np.arange(11)):
        for model, rows in data.rows(images).items():
            store = stores[model]
            np.testing.assert_array_equal(rows.numpy(), whole(store)[images].reshape(-1, store.width))


def test_single_tokens(stores):
    data, images, positions = PairedActivations(stores), np.array([10, 0, 7]), np.array([3, 0, 2])
    for model, store in stores.items():
        tokens = data.tokens_at(model, images, positions)
        np.testing.assert_array_equal(tokens.numpy(), whole(store)[images, positions])


def test_gathered_as_stored(stores):
    for model, rows in PairedActivations(stores).gather(np.array([2, 1])).items():
        store = stores[model]
        assert rows.numpy().dtype == store.dtype
        assert rows.shape == (2, 4, store.width)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_no_file_stays_open(stores):
    data = PairedActivations(stores)
    before = len(os.listdir("/proc/self/fd"))
    data.rows(np.arange(11))
    data.read_through(2)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_part_is_those_images_numbered_anew(stores):
    members = np.array([1, 2, 5, 9, 10])
    part = PairedActivations(stores).part(members)
    assert (part.images, part.tokens, part.bytes) == (5, 4, 5 * 4 * (3 * 2 + 5 * 4))
    images, positions = np.array([4, 0, 3]), np.array([3, 1, 0])
    for chosen in (part, part.select(("b", "a"))):
        rows = chosen.rows(images)
        for model, store in stores.items():
            stored = whole(store)
            np.testing.assert_array_equal(rows[model], stored[members[images]].reshape(-1, store.width))
            tokens = chosen.tokens_at(model, images, positions)
            np.testing.assert_array_equal(tokens, stored[members[images], positions])
    again = part.part(np.array([0, 4]))
    np.testing.assert_array_equal(again.members, [1, 10])


def test_a_part_reads_through_the_files_of_its_own_images(stores, monkeypatch):
    part = PairedActivations(stores).part(np.array([1, 2, 5, 9, 10]))
    opened, real = [], open

    def watched(path, *rest, **options):
        opened.append(str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr("builtins.open", watched)
    part.read_through(1)  # of its fifth image, number 10 of the stores
    expected = [stores["a"].chunk_path(2), stores["b"].chunk_path(5)]
    assert opened == list(map(str, expected))
