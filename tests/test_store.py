import os
import struct

import dask.array
import numpy as np
import pytest
import zarr

from usae.errors import UserError
from usae.store import TRAILER, ActivationStore, Moments, store_root


def values(images=10, tokens=3, width=5, seed=0, dtype="float16"):
    return np.random.default_rng(seed).normal(2, 3, (images, tokens, width)).astype(dtype)


def test_any_zarr_reader_opens_it_and_the_file_is_the_raw_buffer(make_store):
    activations = values()
    store = make_store("s", activations, chunk_images=4)
    np.testing.assert_array_equal(zarr.open_array(store.path, mode="r")[:], activations)
    np.testing.assert_array_equal(dask.array.from_zarr(str(store.path)).compute(), activations)
    raw = store.chunk_path(1).read_bytes()
    assert raw[:-TRAILER] == activations[4:8].tobytes()
    last = np.frombuffer(store.chunk_path(2).read_bytes()[:-TRAILER], "<f2").reshape(4, 3, 5)
    assert np.isnan(last[2:]).all()


def test_zarr_writes_the_same_file(make_store, tmp_path):
    activations = values(8)
    store = make_store("s", activations, chunk_images=4)
    twin = ActivationStore.create(tmp_path / "twin", activations.shape, 4, "float16", {})
    zarr.open_array(twin.path, mode="r+")[:] = activations
    assert [twin.chunk_path(j).read_bytes() for j in range(2)] == [
        store.chunk_path(j).read_bytes() for j in range(2)
    ]


def test_chunks_are_mapped_and_read_only(make_store):
    activations = values()
    store = make_store("s", activations, chunk_images=4)
    assert isinstance(store.chunk(0), np.memmap)
    assert store.chunk(2).shape == (2, 3, 5)
    with pytest.raises(ValueError, match="read-only"):
        store.chunk(0)[0] = 1


def test_moments_are_exact(make_store):
    activations = values(500, 4, 6)
    store = make_store("s", activations, chunk_images=64)
    total = Moments.none(6)
    for chunk in range(store.chunks):
        total = total.merge(store.moments(chunk))
    rows = activations.reshape(-1, 6).astype(np.float64)
    np.testing.assert_allclose(total.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(total.m2 / total.count, rows.var(0), rtol=1e-12)
    mean, std = total.scalar()
    np.testing.assert_allclose([mean, std], [rows.mean(), rows.std(ddof=1)], rtol=1e-12)


def test_moments_survive_a_large_offset():
    rows = np.random.default_rng(0).normal(1e8, 1, (1000, 2))
    np.testing.assert_allclose(Moments.of(rows).m2 / 1000, rows.var(0), rtol=1e-6)


def test_a_flipped_bit_and_a_short_chunk_are_named(make_store):
    store = make_store("s", values(), chunk_images=4)
    raw = bytearray(store.chunk_path(0).read_bytes())
    raw[3] ^= 1
    store.chunk_path(0).write_bytes(raw)
    store.chunk_path(1).write_bytes(store.chunk_path(1).read_bytes()[:-9])
    store.chunk_path(2).unlink()
    assert [fault.split(" (")[0] for fault in store.faults()] == ["Chunk 1", "Chunk 2"]
    assert [fault.split(" (")[0] for fault in store.faults(deep=True)] == ["Chunk 0", "Chunk 1", "Chunk 2"]
    with pytest.raises(
        UserError, match=r"Chunk 1 .* should have 124 bytes, found 115 bytes. Remove .* extract again"
    ):
        store.chunk(1)


def test_an_interrupted_store_goes_on_without_its_leftovers(tmp_path):
    activations = values()
    store = ActivationStore.create(tmp_path / "s", activations.shape, 4, "float16", {})
    store.write(1, activations[4:8])
    (store.chunk_path(1).parent / "0.99.partial").write_bytes(b"half")
    again = ActivationStore.create(tmp_path / "s", activations.shape, 4, "float16", {})
    assert [again.done(j) for j in range(3)] == [False, True, False]
    assert not list(store.path.rglob("*.partial"))


def test_other_shapes_and_foreign_arrays_are_refused(tmp_path, make_store):
    store = make_store("s", values())
    with pytest.raises(UserError, match=r"should be \(10, 3, 6\) .* found \(10, 3, 5\); remove it"):
        ActivationStore.create(store.path, (10, 3, 6), 4, "float16", {})
    zarr.create_array(store=tmp_path / "z", shape=(4, 4), dtype="float32")
    with pytest.raises(UserError, match="is not an activation store"):
        ActivationStore.open(tmp_path / "z")
    with pytest.raises(UserError, match="There is no activation store at"):
        ActivationStore.open(tmp_path / "nothing")


def test_checksum_is_the_trailer(make_store):
    store = make_store("s", values())
    (number,) = struct.unpack("<I", store.chunk_path(0).read_bytes()[-4:])
    assert store.checksum(0) == f"{number:08x}"


def test_the_root_is_found_from_copies_of_the_checkout(monkeypatch):
    for name in ("USAE_STORE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    assert str(store_root("data/activations")) == "data/activations"
    monkeypatch.setenv("DVC_ROOT", os.path.join(os.sep, "main"))
    assert str(store_root("data/activations")) == "/main/data/activations"
    assert str(store_root("/scratch")) == "/scratch"
    monkeypatch.setenv("USAE_STORE", "/elsewhere")
    assert str(store_root("data/activations")) == "/elsewhere"
