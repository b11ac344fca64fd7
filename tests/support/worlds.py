"""Small activations that tests train on: stores, their manifests, and a recipe for them."""

from pathlib import Path

import numpy as np
import yaml

from usae.activations.sampling import PairedActivations
from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest
from usae.common.params import parse_params

ROOT = Path(__file__).parents[2]
RECIPE = parse_params(yaml.safe_load((ROOT / "params.yaml").read_text())).train.model_copy(
    update={
        "dictionary": 24,
        "epochs": 40,
        "batch_images": 8,
        "learning_rate": 3e-3,
        "init": "paired",
        "dictionary_rows": "free",
        "levels": None,
        "coarse_rate": 0.1,
        "sources": "one",
    }
)


def store_at(path: Path, activations: np.ndarray, chunk_images: int = 4, **config: object) -> ActivationStore:
    """A finished store with the given activations [image, token, channel]."""
    attributes = {"config": config} if config else {}
    store = ActivationStore.create(path, activations.shape, chunk_images, str(activations.dtype), attributes)
    for chunk in range(store.chunks):
        if not store.done(chunk):
            span = store.span(chunk)
            store.write(chunk, activations[span.start : span.stop])
    return store


def two_models(folder: Path) -> tuple[dict[str, Manifest], PairedActivations]:
    """Two models that see the same sparse causes through different random maps."""
    rng = np.random.default_rng(0)
    causes = rng.random((40, 6, 12)) * (rng.random((40, 6, 12)) < 0.15)
    maps = {"a": rng.normal(size=(12, 8)), "b": rng.normal(size=(12, 10))}
    stores = {name: store_at(folder / name, (causes @ m).astype("float16"), 8) for name, m in maps.items()}
    manifests = {name: Manifest.generated(name, store) for name, store in stores.items()}
    return manifests, PairedActivations(stores)
