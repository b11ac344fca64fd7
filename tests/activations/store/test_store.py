import os
import struct
from pathlib import Path

import dask.array
import numpy as np
import pytest
import zarr

from usae.activations.store import ActivationStore, Moments, check_room, chunk_images_for, store_root
from usae.common.errors import UserError
from usae.common.files.sealed import TRAILER, write_sealed


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
    assert [str(fault).split(" (")[0] for fault in store.faults()] == ["Chunk 1", "Chunk 2"]
    assert [str(fault).split(" (")[0] for fault in store.faults(deep=True)] == ["Chunk 0", "Chunk 1", "Chunk 2"]
    assert [fault.damaged for fault in store.faults(deep=True)] == [
        store.chunk_path(0),
        store.chunk_path(1),
        None,
    ]
    sentence = r"Chunk 1 .* should have 124 bytes, found 115 bytes. `usae store verify --repair .*s` lists"
    with pytest.raises(UserError, match=sentence):
        store.chunk(1)


def test_a_chunk_of_no_bytes_is_not_done(make_store):
    store = make_store("s", values(), chunk_images=4)
    store.chunk_path(1).write_bytes(b"")
    assert [store.done(j) for j in range(3)] == [True, False, True]
    assert [str(fault) for fault in store.faults()] == [
        f"Chunk 1 ({store.chunk_path(1)}) should have 124 bytes, found 0 bytes."
    ]


def test_damaged_moments_never_become_statistics(make_store):
    store = make_store("s", values(), chunk_images=4)
    raw = bytearray(store.moments_path(0).read_bytes())
    raw[7] ^= 64
    store.moments_path(0).write_bytes(raw)
    store.moments_path(1).write_bytes(raw[:16])
    with pytest.raises(
        UserError, match="The file of chunk 0's moments .* does not match its checksum, or is .* `usae store"
    ):
        store.moments(0)
    assert not store.done(1)
    assert [fault.damaged for fault in store.faults(deep=True)] == [store.moments_path(0), store.moments_path(1)]


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
    with pytest.raises(UserError, match=r"(?s)rm -r .*- `shape` should be \[10, 3, 6\], found \[10, 3, 5\]"):
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


def test_the_root_is_found_from_copies_of_the_checkout(monkeypatch, tmp_path):
    for name in ("USAE_STORE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    assert str(store_root("data/activations")) == "data/activations"
    monkeypatch.setenv("DVC_ROOT", os.path.join(os.sep, "main"))
    assert str(store_root("data/activations")) == "/main/data/activations"
    assert str(store_root("/scratch")) == "/scratch"
    monkeypatch.setenv("USAE_STORE", "/elsewhere")
    assert str(store_root("data/activations")) == "/elsewhere"
    monkeypatch.setenv("USAE_STORE", "")
    assert str(store_root("data/activations")) == "/main/data/activations"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_root("~/big") == tmp_path / "big"
    monkeypatch.setenv("USAE_STORE", "~/large")
    assert store_root("~/big") == tmp_path / "large"


def test_a_store_of_another_configuration_is_named_key_by_key(tmp_path):
    config = {"layer": -1, "grid": 8, "norm": True}
    path = tmp_path / "m-train-0123456789ab"
    ActivationStore.create(path, (4, 2, 3), 4, "float16", {"model": "m", "config": config})
    other = {"model": "m", "config": config | {"layer": 3, "norm": False}}
    with pytest.raises(UserError, match="holds something else than its name says") as error:
        ActivationStore.create(path, (4, 2, 3), 2, "float32", other)
    assert str(error.value).splitlines()[1:] == [
        "  - `images per chunk` should be 2, found 4",
        "  - `type` should be float32, found float16",
        "  - `layer` should be 3, found -1",
        "  - `norm` should be False, found True",
    ]


def test_lost_or_broken_metadata(make_store):
    activations = values()
    store = make_store("s", activations)
    metadata = (store.path / "zarr.json").read_bytes()
    (store.path / "zarr.json").write_bytes(metadata[:50])
    with pytest.raises(UserError, match=r"zarr.json is damaged, it is not JSON"):
        ActivationStore.open(store.path)
    (store.path / "zarr.json").unlink()
    again = ActivationStore.create(store.path, activations.shape, 4, "float16", {})
    assert (store.path / "zarr.json").read_bytes() == metadata
    assert not again.faults(deep=True)


def test_images_from_any_chunks(make_store):
    activations = values()
    store = make_store("s", activations, chunk_images=4)
    for start in range(10):
        for stop in range(start + 1, 11):
            np.testing.assert_array_equal(store.take(range(start, stop)), activations[start:stop])
    for chosen in ([0, 2], [1, 2, 3], [0, 3, 4, 9], [2, 4, 5, 6], [9]):
        np.testing.assert_array_equal(store.take(np.array(chosen)), activations[chosen])
    assert isinstance(store.take(range(5, 8)), np.memmap)
    for wrong in ([], [3, 2], [1, 1, 3]):
        with pytest.raises(ValueError, match="should increase"):
            store.take(np.array(wrong, dtype=int))


@pytest.mark.parametrize("tokens", [16, 49, 64, 196, 256, 1024])
@pytest.mark.parametrize("width", [64, 96, 384, 768, 1024, 4096])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_chunks_are_16_to_64_megabytes(tokens, width, itemsize):
    images = chunk_images_for(tokens, width, itemsize, 10**7, None)
    assert images == 1 << (images.bit_length() - 1)
    assert 16e6 <= images * tokens * width * itemsize <= 64e6


def test_chunk_sizes_by_hand():
    assert chunk_images_for(196, 768, 2, 1_281_167, None) == 128
    assert chunk_images_for(196, 384, 2, 1_281_167, None) == 256
    assert chunk_images_for(196, 768, 2, 100, None) == 100
    assert chunk_images_for(4096, 8192, 4, 100, None) == 1
    assert chunk_images_for(196, 768, 2, 1_281_167, 50) == 50
    assert chunk_images_for(196, 768, 2, 20, 50) == 20


def test_room_is_counted_before_the_first_chunk(tmp_path, make_store):
    store = make_store("s", values(), chunk_images=4)
    assert store.bytes_to_come == 0
    store.chunk_path(1).unlink()
    assert store.bytes_to_come == 124 + 84
    need, have = check_room([store])
    assert need == 208
    assert have > need
    huge = ActivationStore.create(tmp_path / "huge", (10**9, 196, 768), 10**8, "float16", {})
    with pytest.raises(UserError, match=r"There is no room for the activations: 301T?B? ?.*free there. Make room"):
        check_room([store, huge])


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second), other.write_bytes(first)


@pytest.mark.parametrize("place", ["moments_path", "chunk_path"])
def test_moments_fit_the_chunk_they_were_written_with_and_no_other(make_store, place):
    """Each file is sound by itself: no checksum of its own contents would tell."""
    store = make_store("s", values(), chunk_images=4)
    swap(getattr(store, place)(0), getattr(store, place)(1))
    assert not store.faults()
    faults = store.faults(deep=True)
    assert [fault.damaged for fault in faults] == [store.moments_path(0), store.moments_path(1)]
    assert str(faults[0]).endswith("does not match its checksum, or is another chunk's.")
    with pytest.raises(UserError, match="is another chunk's"):
        store.moments(0)
    with pytest.raises(UserError, match=r"(?s)verify --repair .*, then the same command again.*0.f64.*1.f64"):
        store.refuse_foreign_moments()
    assert store.moments(2)


def test_a_chunk_does_not_change_its_place_with_all_its_files(make_store):
    store = make_store("s", values(), chunk_images=4)
    for place in (store.chunk_path, store.moments_path):
        swap(place(0), place(1))
    assert [fault.damaged for fault in store.faults(deep=True)] == [store.moments_path(0), store.moments_path(1)]


def test_moments_of_earlier_versions_are_taken_as_they_are(make_store):
    store = make_store("s", values(), chunk_images=4)
    moments = store.moments(1)
    write_sealed(store.moments_path(1), np.stack([moments.mean, moments.m2]).astype("<f8"))
    assert not store.faults(deep=True)
    np.testing.assert_array_equal(store.moments(1).mean, moments.mean)


FOREIGN = {
    "list": "[]",
    "null": "null",
    "no shape": '{"codecs": [{"name": "bytes"}, {"name": "crc32c"}]}',
    "codecs": '{"codecs": 3}',
    "chunks of 0 images": lambda text: text.replace('"chunk_shape": [\n        4', '"chunk_shape": [\n        0'),
    "type": lambda text: text.replace('"float16"', '"float17"'),
    "attributes": lambda text: text.replace('"usae_schema": 1', '"config": []'),
}


@pytest.mark.parametrize("damage", FOREIGN)
def test_any_other_metadata_is_no_activation_store(make_store, damage):
    store = make_store("s", values())
    file, change = store.path / "zarr.json", FOREIGN[damage]
    changed = change if isinstance(change, str) else change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    with pytest.raises(UserError, match=r"is not an activation store: .* See docs/format.md"):
        ActivationStore.open(store.path)
