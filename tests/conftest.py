"""Shared fixtures: small real things (networks, images, stores), made afresh in a temporary folder."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jaxtyping import install_import_hook
from PIL import Image

# The shapes in signatures are checked while tests run, and only then.
install_import_hook(["usae.sae", "usae.steps", "usae.sampling", "usae.geometry"], "beartype.beartype")

from usae.manifests import Manifest, SplitManifest  # noqa: E402
from usae.params import Params, parse_params  # noqa: E402
from usae.sampling import PairedActivations  # noqa: E402
from usae.store import ActivationStore  # noqa: E402

ROOT = Path(__file__).parents[1]
os.environ["DVC_NO_ANALYTICS"] = "1"
torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture
def raw_params() -> dict:
    """params.yaml as plain values, to be changed and parsed."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture
def params(raw_params) -> Params:
    return parse_params(raw_params)


@pytest.fixture(scope="module")
def module_params() -> Params:
    return parse_params(yaml.safe_load((ROOT / "params.yaml").read_text()))


@pytest.fixture
def make_store(tmp_path):
    """A finished store with the given activations [image, token, channel]."""

    def make(name: str, activations: np.ndarray, chunk_images: int = 4, **config: object) -> ActivationStore:
        dtype, attributes = str(activations.dtype), {"config": config} if config else {}
        store = ActivationStore.create(tmp_path / name, activations.shape, chunk_images, dtype, attributes)
        for chunk in range(store.chunks):
            span = store.span(chunk)
            store.write(chunk, activations[span.start : span.stop])
        return store

    return make


@pytest.fixture
def image_folder(tmp_path):
    """Twelve small pictures in three class folders, and a text file that claims to be one."""
    root = tmp_path / "pictures"
    for number in range(12):
        folder = root / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    (root / "class0" / "broken.jpg").write_text("not a picture")
    return root


@pytest.fixture
def manifest_of():
    """The manifest of a store, which serves as both splits."""

    def make(model: str, store: ActivationStore) -> Manifest:
        rows = np.concatenate([store.chunk(j) for j in range(store.chunks)]).astype(np.float64)
        crc32c = tuple(store.checksum(chunk) for chunk in range(store.chunks))
        split = SplitManifest(store.path.name, store.images, "digest", store.chunk_images, crc32c)
        return Manifest(
            model=model,
            backbone={},
            layer=-1,
            norm=True,
            grid=round(store.tokens**0.5),
            fit="squash",
            dtype=str(store.dtype),
            width=store.width,
            mean=float(rows.mean()),
            std=float(rows.std(ddof=1)),
            statistics="after",
            statistics_images=store.images,
            channel_mean=tuple(rows.mean((0, 1)).tolist()),
            channel_std=tuple(rows.std((0, 1)).tolist()),
            train=split,
            val=split,
        )

    return make


@pytest.fixture(scope="module")
def one_thread():
    """For many small networks: further threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def world(make_store, manifest_of):
    """Two models that see the same sparse causes through different random maps."""
    rng = np.random.default_rng(0)
    causes = rng.random((40, 6, 12)) * (rng.random((40, 6, 12)) < 0.15)
    maps = {"a": rng.normal(size=(12, 8)), "b": rng.normal(size=(12, 10))}
    stores = {name: make_store(name, (causes @ m).astype("float16"), 8) for name, m in maps.items()}
    return {name: manifest_of(name, store) for name, store in stores.items()}, PairedActivations(
        list(stores.values())
    )


@pytest.fixture
def recipe(params):
    return params.train.model_copy(
        update={"dictionary": 24, "epochs": 40, "batch_images": 8, "learning_rate": 3e-3}
    )
