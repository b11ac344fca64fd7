import hashlib
from pathlib import Path

import numpy as np
import pytest
import zarr

from usae.common.errors import UserError
from usae.evidence.codes.store import CodeStore, aligned_chunks, open_codes

IMAGES, GRID, K, CHUNK = 7, 2, 3, 3


def create(path: Path, concepts: int = 50, **changes) -> CodeStore:
    settings = {"model": path.name, "sae": "usae", "images": IMAGES, "grid": GRID, "k": K, "chunk_images": CHUNK}
    return CodeStore.create(path, concepts=concepts, **{**settings, **changes})


def codes(store: CodeStore, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.random((store.images, store.tokens, store.concepts)).argsort(axis=2)[:, :, :K]
    return rows, rng.gamma(1.0, size=rows.shape).astype(np.float32)


def filled(path: Path, **changes) -> CodeStore:
    store = create(path, **changes)
    indices, values = codes(store)
    for chunk in range(store.chunks):
        part = slice(chunk * store.chunk_images, (chunk + 1) * store.chunk_images)
        store.write(chunk, indices[part], values[part])
    return store


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_codes_come_back_as_written(tmp_path):
    indices, values = codes(filled(tmp_path / "language"))
    store = CodeStore.open(tmp_path / "language")
    assert (store.model, store.sae, store.images, store.tokens, store.k) == ("language", "usae", IMAGES, 4, K)
    assert (store.concepts, store.grid, store.chunk_images, store.chunks) == (50, GRID, CHUNK, 3)
    parts = list(store)
    assert [len(part.images) for part in parts] == [3, 3, 1]
    assert np.concatenate([part.images for part in parts]).tolist() == list(range(IMAGES))
    np.testing.assert_array_equal(np.concatenate([part.indices for part in parts]), indices)
    read = np.concatenate([part.values for part in parts])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(("concepts", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_indices_are_as_narrow_as_the_dictionary_allows(tmp_path, concepts, dtype):
    store = create(tmp_path / "language", concepts=concepts, images=1, chunk_images=1)
    indices = np.full((1, 4, K), concepts - 1)
    store.write(0, indices, np.ones(indices.shape))
    chunk = CodeStore.open(tmp_path / "language").chunk(0)
    assert chunk.indices.dtype == dtype
    np.testing.assert_array_equal(chunk.indices, indices)


def test_any_zarr_reader_opens_the_arrays(tmp_path):
    store = filled(tmp_path / "language")
    values = zarr.open_array(tmp_path / "language" / "values", mode="r")
    assert values.metadata.dimension_names == ("image", "token", "k")
    np.testing.assert_array_equal(np.asarray(values[:3]).astype(np.float32), store.chunk(0).values)


def test_chosen_images_come_in_the_order_asked_for(tmp_path):
    store = filled(tmp_path / "language")
    indices, values = codes(store)
    chunk = store.read([6, 0, 3, 0])
    assert chunk.images.tolist() == [6, 0, 3, 0]
    np.testing.assert_array_equal(chunk.indices, indices[[6, 0, 3, 0]])
    np.testing.assert_array_equal(chunk.values, values[[6, 0, 3, 0]].astype(np.float16))
    assert store.read([]).values.shape == (0, 4, K)
    with pytest.raises(UserError, match=r"hold images 0 to 6, not 7, -1\."):
        store.read([7, 0, -1])


def test_writing_again_gives_the_same_bytes(tmp_path):
    filled(tmp_path / "language")
    first = digest(tmp_path)
    filled(tmp_path / "language")
    assert digest(tmp_path) == first


def test_creating_replaces_what_was_there(tmp_path):
    filled(tmp_path / "language", images=20)
    filled(tmp_path / "language")
    assert CodeStore.open(tmp_path / "language").images == IMAGES
    assert len(list((tmp_path / "language" / "values" / "c").iterdir())) == 3


def test_refused_chunks_name_every_fault(tmp_path):
    store = create(tmp_path / "language")
    indices, values = np.zeros((3, 4, K), dtype=np.int64), np.zeros((3, 4, K))
    indices[0, 0, 0], values[0, 0, 0] = 50, 7e4
    with pytest.raises(UserError) as refusal:
        store.write(1, indices, values)
    text = str(refusal.value)
    assert "Chunk 1 of the codes in" in text
    assert "Expected concepts 0 to 49, found indices 0 to 50." in text
    assert "Expected codes from 0 to 65504 (float16), found 0 to 70000." in text


def test_refused_shapes_and_numbers(tmp_path):
    store = create(tmp_path / "language")
    good = np.zeros((3, 4, K))
    with pytest.raises(UserError, match=r"Expected the shape \(1, 4, 3\), found indices \(3, 4, 3\)"):
        store.write(2, good.astype(np.int64), good)
    with pytest.raises(UserError, match="Expected finite codes, found NaN or infinity"):
        store.write(0, good.astype(np.int64), good + np.nan)
    with pytest.raises(UserError, match=r"found -1 to -1\."):
        store.write(0, good.astype(np.int64), good - 1)
    with pytest.raises(UserError, match="have chunks 0 to 2, not 3"):
        store.chunk(3)


def test_missing_unfinished_and_foreign_stores_are_named(tmp_path):
    with pytest.raises(UserError, match=r"found none\. Run `dvc repro encode`\."):
        CodeStore.open(tmp_path / "nobody")
    store = create(tmp_path / "language")
    store.write(0, np.zeros((3, 4, K), dtype=np.int64), np.zeros((3, 4, K)))
    with pytest.raises(UserError, match=r"unfinished: expected 3 chunks, found 1\."):
        CodeStore.open(tmp_path / "language")
    zarr.create_group(tmp_path / "other")
    with pytest.raises(UserError, match="lack the attributes model, sae, concepts, k, grid"):
        CodeStore.open(tmp_path / "other")
    zarr.create_group(tmp_path / "hollow", attributes=dict.fromkeys(("model", "sae", "concepts", "k", "grid"), 1))
    with pytest.raises(UserError, match="Expected the array `indices`"):
        CodeStore.open(tmp_path / "hollow")


def test_models_are_read_side_by_side(tmp_path):
    for model in ("supervised", "language"):
        filled(tmp_path / model)
    stores = open_codes(tmp_path, ("supervised", "language"))
    assert list(stores) == ["supervised", "language"]
    assert [[len(part.images) for part in parts] for parts in aligned_chunks(stores)] == [[3, 3], [3, 3], [1, 1]]


def test_disagreeing_models_are_all_named(tmp_path):
    filled(tmp_path / "supervised")
    filled(tmp_path / "language", images=9, concepts=60)
    filled(tmp_path / "distilled", model="other")
    with pytest.raises(UserError) as refusal:
        open_codes(tmp_path, ("supervised", "language", "distilled", "absent"))
    text = str(refusal.value)
    assert "disagree on `images` (supervised: 7, language: 9, distilled: 7)" in text
    assert "disagree on `concepts` (supervised: 50, language: 60, distilled: 50)" in text
    assert "holds the codes of `other`, expected `distilled`" in text
    assert "absent, found none" in text


def read_whole(folder: Path) -> list[np.ndarray]:
    return [array for chunk in CodeStore.open(folder) for array in (chunk.indices, chunk.values)]


@pytest.mark.parametrize("name", ["indices", "values"])
def test_every_flipped_bit_of_a_chunk_is_found(tmp_path, name):
    """A flip in `values` used to be another code, one in `indices` an index error without a file."""
    filled(tmp_path / "language")
    file = tmp_path / "language" / name / "c" / "1" / "0" / "0"
    whole = file.read_bytes()
    for bit in np.random.default_rng(0).integers(8 * len(whole), size=60).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"language are damaged \(.*\)\. Run `dvc repro -f -s encode`"):
            read_whole(tmp_path / "language")
    file.write_bytes(whole[:20])
    with pytest.raises(UserError, match="are damaged"):
        read_whole(tmp_path / "language")


def test_chunks_that_change_places_are_found(tmp_path):
    filled(tmp_path / "language")
    one, other = (tmp_path / "language" / "values" / "c" / str(chunk) / "0" / "0" for chunk in (0, 1))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second), other.write_bytes(first)
    with pytest.raises(UserError, match="its chunks or attributes are not those that were written"):
        CodeStore.open(tmp_path / "language")


def test_flipped_metadata_changes_nothing_or_is_found(tmp_path):
    filled(tmp_path / "language")
    expected, rng, refused = read_whole(tmp_path / "language"), np.random.default_rng(0), 0
    for file in sorted((tmp_path / "language").rglob("zarr.json")):
        whole = file.read_bytes()
        for bit in rng.choice(8 * len(whole), 100, replace=False).tolist():
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            try:
                for array, wanted in zip(read_whole(tmp_path / "language"), expected, strict=True):
                    np.testing.assert_array_equal(array, wanted)
            except UserError:
                refused += 1
        file.write_bytes(whole)
    assert refused > 150
