"""docs/format.md, read back with nothing but zarr, numpy and json (and pyarrow for the index)."""

import dataclasses
import hashlib
import json
import re
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from PIL import Image

from usae.activations.extraction.extract import extract
from usae.activations.extraction.extractor import Extraction
from usae.activations.store.location import checkpoint_folder
from usae.backbones.networks.backbone import pin
from usae.backbones.networks.building import build
from usae.common.params import BackboneParams, ImagesParams, load_params
from usae.evidence.codes.encoding import encode_split
from usae.images.sources.writing import write_images
from usae.sae.universal import UniversalSAE
from usae.training.loop.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]
GRID, WIDTH, CHUNK, CONCEPTS, K = 4, 24, 3, 20, 3
COARSE = 2  # a grid to which the tokens are resampled
CPU = torch.device("cpu")
TINY = BackboneParams(
    timm="vit_tiny_patch16_224",
    kwargs={"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": 2, "num_classes": 0},
    weights="random",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkout's data folder, written by the library: images, weights, stores, manifest, SAE, codes."""
    root = tmp_path_factory.mktemp("run")
    for number in range(14):
        path = root / "pictures" / f"class{number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (root / "pictures" / "class0" / "broken.jpg").write_text("not a picture")
    pictures = str(root / "pictures")
    images = ImagesParams(source="folder", path=pictures, train=None, val=None, val_share=0.3)
    write_images(root / "images", images, seed=0, workers=1)
    torch.manual_seed(0)
    pin(TINY, root / "weights" / "m", build(TINY))
    params = load_params(ROOT / "params.yaml")
    settings = params.extract.model_copy(
        update={"grid": GRID, "chunk_images": CHUNK, "statistics_images": 5, "dtype": "float16", "fit": "squash"}
    )
    runtime = params.runtime.model_copy(update={"store": str(root / "activations"), "workers": 1})
    extraction = Extraction("m", root / "weights" / "m", -1, True, root / "images", pictures, settings, runtime)
    fine = settings.model_copy(update={"dtype": "float32"})
    coarse = fine.model_copy(update={"grid": COARSE, "statistics": "before"})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("USAE_STORE", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        manifest = extract(extraction)
        for name, params in {"fine": fine, "coarse": coarse}.items():
            extract(dataclasses.replace(extraction, params=params)).save(root / "manifests" / f"{name}.json")
    manifest.save(root / "manifests" / "m.json")
    sae = UniversalSAE({"m": WIDTH}, concepts=CONCEPTS, k=K).eval()
    sae.save_pretrained(root / "usae")
    store = manifest.open("val", root / "activations")
    encode_split(sae, "m", store, root / "codes" / "val" / "m", "usae", None, CPU)
    return root


@pytest.fixture
def manifest(run):
    return sealed(run / "manifests" / "m.json")


def sealed(path: Path) -> dict:
    """What a JSON file says, if that is what its checksum is of."""
    said = json.loads(path.read_text())
    assert int(said.pop("crc32c"), 16) == castagnoli(json.dumps(said, sort_keys=True).encode())
    return said


@pytest.fixture(params=["train", "val"])
def split(request, run, manifest):
    """One split's part of the manifest, and its store's folder."""
    part = manifest[request.param]
    return part, run / "activations" / part["store"]


def castagnoli(data: bytes) -> int:
    """CRC32C by its definition: reflected polynomial 0x82F63B78, initial and final value all ones."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def metadata(folder: Path) -> dict:
    return json.loads((folder / "zarr.json").read_text())


def chunks(folder: Path, images: int) -> np.ndarray:
    """All images of a store from the raw chunk files."""
    parts = [
        np.memmap(folder / "c" / str(j) / "0" / "0", "<f2", "r", shape=(CHUNK, GRID * GRID, WIDTH))
        for j in range(-(-images // CHUNK))
    ]
    return np.concatenate(parts)


def native_tokens(run: Path) -> np.ndarray:
    """The training images' tokens on the network's own grid, as float32 gave them: (images, tokens, width)."""
    fine = json.loads((run / "manifests" / "fine.json").read_text())
    return zarr.open_array(run / "activations" / fine["train"]["store"], mode="r")[:].astype(float)


def test_the_array_is_what_the_page_says(split):
    part, folder = split
    meta = metadata(folder)
    assert (meta["zarr_format"], meta["node_type"]) == (3, "array")
    assert meta["shape"] == [part["images"], GRID * GRID, WIDTH]
    assert meta["dimension_names"] == ["image", "token", "channel"]
    assert meta["data_type"] == "float16"
    assert meta["codecs"] == [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    assert meta["fill_value"] == "NaN"
    assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [CHUNK, GRID * GRID, WIDTH]
    assert {"usae_schema", "model", "split", "config"} <= meta["attributes"].keys()
    assert meta["attributes"]["usae_schema"] == 1
    seal = meta["attributes"].pop("crc32c")
    assert int(seal, 16) == castagnoli(json.dumps(meta, sort_keys=True).encode())
    assert part["chunk_images"] == CHUNK


def test_chunk_files_are_the_raw_buffer_and_zarr_reads_the_same(split):
    part, folder = split
    raw, read = chunks(folder, part["images"]), zarr.open_array(folder, mode="r")[:]
    np.testing.assert_array_equal(raw[: part["images"]], read)
    assert np.isfinite(read).all()
    assert np.isnan(raw[part["images"] :]).all()


def test_trailers_are_checksums_and_stand_in_the_manifest(split):
    part, folder = split
    for chunk, expected in enumerate(part["crc32c"]):
        whole = (folder / "c" / str(chunk) / "0" / "0").read_bytes()
        assert len(whole) == CHUNK * GRID * GRID * WIDTH * 2 + 4
        assert struct.unpack("<I", whole[-4:])[0] == castagnoli(whole[:-4]) == int(expected, 16)


def test_moments_are_those_of_the_stored_values(split):
    part, folder = split
    for chunk in range(len(part["crc32c"])):
        whole = (folder / "moments" / f"{chunk}.f64").read_bytes()
        owner = int(part["crc32c"][chunk], 16) ^ chunk
        assert struct.unpack("<I", whole[-4:])[0] ^ owner == castagnoli(whole[:-4])
        mean, m2 = np.frombuffer(whole[:-4], "<f8").reshape(2, WIDTH)
        images = range(chunk * CHUNK, min((chunk + 1) * CHUNK, part["images"]))
        rows = chunks(folder, part["images"])[images.start : images.stop].reshape(-1, WIDTH).astype(float)
        np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(m2, np.square(rows - rows.mean(0)).sum(0), rtol=1e-10)


def test_moments_before_resampling_are_those_of_the_layers_own_tokens(run):
    """The store on the network's own grid holds these tokens."""
    own, coarse = native_tokens(run), json.loads((run / "manifests" / "coarse.json").read_text())
    folder = run / "activations" / coarse["train"]["store"]
    assert metadata(folder)["attributes"]["config"]["own_grid"] == [GRID, GRID]
    for chunk in range(len(coarse["train"]["crc32c"])):
        images = range(chunk * CHUNK, min((chunk + 1) * CHUNK, coarse["train"]["images"]))
        rows, count = own[images.start : images.stop], len(images)  # (images, tokens, width)
        whole = (folder / "before" / f"{chunk}.f64").read_bytes()
        assert len(whole) == 16 * (WIDTH + count) + 4
        owner = int(coarse["train"]["crc32c"][chunk], 16) ^ chunk
        assert struct.unpack("<I", whole[-4:])[0] ^ owner == castagnoli(whole[:-4])
        channels, of_images = whole[: 16 * WIDTH], whole[16 * WIDTH : -4]
        mean, m2 = np.frombuffer(channels, "<f8").reshape(2, WIDTH)
        image_mean, image_m2 = np.frombuffer(of_images, "<f8").reshape(2, count)
        np.testing.assert_allclose(mean, rows.mean((0, 1)), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(m2, np.square(rows - rows.mean((0, 1))).sum((0, 1)), rtol=1e-10)
        np.testing.assert_allclose(image_mean, rows.mean((1, 2)), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(image_m2, rows.var((1, 2)) * rows[0].size, rtol=1e-10)


def test_the_manifest_says_which_tokens_its_statistics_are_of(run, manifest):
    coarse = json.loads((run / "manifests" / "coarse.json").read_text())
    assert (manifest["statistics"], coarse["statistics"]) == ("after", "before")
    own = native_tokens(run)
    first = own[: coarse["statistics_images"]]
    np.testing.assert_allclose([coarse["mean"], coarse["std"]], [first.mean(), first.std(ddof=1)], rtol=1e-10)
    np.testing.assert_allclose(coarse["channel_mean"], own.mean((0, 1)), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(coarse["channel_std"], own.std((0, 1)), rtol=1e-10)


def test_there_are_no_other_files(split):
    part, folder = split
    count = len(part["crc32c"])
    expected = {"zarr.json"} | {f"moments/{j}.f64" for j in range(count)} | {f"c/{j}/0/0" for j in range(count)}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == expected


def test_the_name_is_a_fingerprint_of_the_configuration(split):
    part, folder = split
    attributes = metadata(folder)["attributes"]
    digest = hashlib.sha256(json.dumps(attributes["config"], sort_keys=True).encode()).hexdigest()[:12]
    assert folder.name == f"{attributes['model']}-{attributes['split']}-{digest}"
    assert attributes["config"]["images"] == part["images_digest"]


def test_the_manifests_statistics(run, manifest):
    read = zarr.open_array(run / "activations" / manifest["train"]["store"], mode="r")[:].astype(float)
    first = read[: manifest["statistics_images"]]
    assert manifest["statistics_images"] == 5
    np.testing.assert_allclose([manifest["mean"], manifest["std"]], [first.mean(), first.std(ddof=1)], rtol=1e-10)
    np.testing.assert_allclose(manifest["channel_mean"], read.mean((0, 1)), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(manifest["channel_std"], read.std((0, 1)), rtol=1e-10)
    config = sealed(run / "weights" / "m" / "config.json")
    assert manifest["backbone"] == config
    weights = (run / "weights" / "m" / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == config["sha256"]
    assert (manifest["model"], manifest["grid"], manifest["width"], manifest["dtype"]) == (
        "m",
        GRID,
        WIDTH,
        "float16",
    )


def test_image_i_is_row_i_of_the_readable_rows(run, manifest):
    total = 0
    for split in ("train", "val"):
        whole = (run / "images" / f"{split}.parquet").read_bytes()
        footer = len(whole) - 8 - struct.unpack("<I", whole[-8:-4])[0]
        assert whole[footer - 8 : footer - 4] == b"CRC3"
        assert struct.unpack("<I", whole[footer - 4 : footer])[0] == castagnoli(
            whole[: footer - 8] + whole[footer:]
        )
        table = pq.read_table(run / "images" / f"{split}.parquet")
        assert table.column_names[:7] == ["key", "path", "bytes", "label", "caption", "digest", "fault"]
        assert json.loads(table.schema.metadata[b"usae.label_names"]) == ["class0", "class1"]
        rows = table.to_pylist()
        assert manifest[split]["images"] == sum(row["fault"] is None for row in rows)
        total += len(rows)
    assert total == 15


def test_the_sae_is_json_and_little_endian_floats(run):
    whole = (run / "usae" / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    shapes = {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    assert shapes["parts.m.encoder.linear.weight"] == (CONCEPTS, WIDTH)
    assert shapes["parts.m.encoder.norm.running_var"] == (CONCEPTS,)
    assert shapes["parts.m.dictionary.weight"] == (CONCEPTS, WIDTH)
    assert shapes["parts.m.mean"] == shapes["parts.m.std"] == (WIDTH,)
    assert shapes["parts.m.gain"] == ()
    start, stop = header["parts.m.dictionary.weight"]["data_offsets"]
    rows = np.frombuffer(whole[8 + length :][start:stop], "<f4").reshape(CONCEPTS, WIDTH)
    expected = UniversalSAE.from_pretrained(run / "usae").dictionary("m").detach().numpy()
    np.testing.assert_allclose(rows / np.linalg.norm(rows, axis=1, keepdims=True), expected, atol=1e-6)
    config = sealed(run / "usae" / "config.json")
    assert (config["format"], config["k"], config["concepts"], config["widths"]) == (3, K, CONCEPTS, {"m": WIDTH})
    assert config["sha256"] == hashlib.sha256(whole).hexdigest()


def test_codes_are_a_group_of_two_arrays(run, manifest):
    group = zarr.open_group(run / "codes" / "val" / "m", mode="r")
    indices, values = group["indices"], group["values"]
    assert indices.shape == values.shape == (manifest["val"]["images"], GRID * GRID, K)
    assert (indices.dtype, values.dtype) == (np.uint16, np.float16)
    attributes = dict(group.attrs)
    checksums, seal = attributes.pop("chunks"), attributes.pop("crc32c")
    assert attributes == {"model": "m", "sae": "usae", "concepts": CONCEPTS, "k": K, "grid": GRID}
    for name, array in (("indices", indices), ("values", values)):
        for chunk, expected in enumerate(checksums[name]):
            whole = (run / "codes" / "val" / "m" / name / "c" / str(chunk) / "0" / "0").read_bytes()
            assert struct.unpack("<I", whole[-4:])[0] == castagnoli(whole[:-4]) == int(expected, 16)
        assert [codec["name"] for codec in array.metadata.to_dict()["codecs"]] == ["bytes", "zstd", "crc32c"]
    arrays = [[str(a.dtype), list(a.shape), list(a.chunks)] for a in (indices, values)]
    said = json.dumps({**attributes, "chunks": checksums, "arrays": arrays}, sort_keys=True)
    assert int(seal, 16) == castagnoli(said.encode())
    for used, picked in zip((values[:] > 0).reshape(-1, K), indices[:].reshape(-1, K), strict=True):
        assert len(set(picked[used])) == used.sum()


def test_the_pages_example_runs(run, manifest, monkeypatch):
    page = (ROOT / "docs" / "format.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    name = manifest["train"]["store"]
    example = example.replace("data/activations/supervised-train-...", str(run / "activations" / name))
    example = re.sub(r"shape=\([\d, ]+\)", f"shape=({CHUNK}, {GRID * GRID}, {WIDTH})", example)
    scope: dict = {"zarr": zarr, "np": np}
    exec(example, scope)
    np.testing.assert_array_equal(scope["array"][:CHUNK], scope["chunk"])


def test_a_checkpoint_is_a_sealed_torch_file(tmp_path):
    identity = {"train": {"epochs": 8}, "k": K}
    folder = checkpoint_folder(tmp_path, "usae", identity)
    for step in range(3):
        Checkpoints(folder, identity, 10).save({"step": step, "weights": torch.arange(5)})
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    assert folder == tmp_path / "training" / f"usae-{digest}"
    assert sorted(path.name for path in folder.iterdir()) == ["000002.state", "000003.state"]
    whole = (folder / "000003.state").read_bytes()
    assert struct.unpack("<I", whole[-4:])[0] == castagnoli(whole[:-4])
    read = torch.load(folder / "000003.state", weights_only=True)
    assert read.keys() == {"identity", "state"}
    assert json.loads(read["identity"]) == {"format": 2, **identity}
    assert read["state"]["step"] == 2
    assert read["state"]["weights"].tolist() == [0, 1, 2, 3, 4]
