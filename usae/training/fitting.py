"""A universal SAE of plain arrays, in one call: the way of stage `train`, through stores of its own.

sae = usae.fit({"vit": a, "resnet": b}, k=16, dictionary=512)   # (images, tokens, width) each
codes = sae.encode({"vit": torch.as_tensor(a[:8])})["vit"]
"""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from usae.activations.sampling import open_paired
from usae.activations.store import ActivationStore, chunk_images_for
from usae.activations.store.manifests import Manifest
from usae.common.errors import UserError
from usae.common.params import parse_train
from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import RunOptions, train

# What presets/own.yaml says; sizes are made to fit.
RECIPE: dict[str, Any] = {
    "learning_rate": 0.003,
    "final_learning_rate": 0.000001,
    "weight_decay": 0.00001,
    "clip_norm": 1.0,
    "standardize": "scalar",
    "gain": "width",
    "init": "clusters",
    "dictionary_rows": "free",
    "coarse_rate": 0.05,
    "sources": "each",
    "update": "all",
    "loss": "l2",
    "aux": "none",
    "aux_weight": 0.1,
    "aux_codes": 512,
    "dead_after": 200,
    "precision": "float32",
    "schedule": "global",
    "pairs": "matched",
    "window_images": None,
    "shuffle_tokens": True,
}
STEPS = 1000  # of training, where a pass over the images has fewer
BATCH_TOKENS = 2048  # of a step
WARMUP = 0.1  # of the training
NAME = re.compile(r"[A-Za-z0-9_-]+")  # of a model: also a file's name


def fit(
    activations: Mapping[str, Any],
    k: int = 16,
    dictionary: int = 256,
    seed: int = 0,
    device: str | None = None,
    scratch: str | Path | None = None,
    **recipe: Any,
) -> UniversalSAE:
    """A universal SAE of paired activations: row i of every model is the same image (or the same token).

    activations: by model, (images, tokens, width) or (rows, width): NumPy arrays, memory maps, Zarr arrays or CPU
    tensors. They are copied to a temporary store below `scratch` (None: the system's own folder), block by block,
    as float16 where they are that and else as float32, and read from there: it needs their size on disk, and
    little memory. dictionary: concepts. k: codes per token. device: None is the GPU where there is one. recipe:
    any key of `train` in params.yaml; unsaid, that of presets/own.yaml, one level, 2048 tokens a step and 1000
    steps or one pass. The same arguments give the same SAE, and stage `train` gives it of the same tokens.

    Raises:
        UserError: the shapes do not belong together, a value is not finite, or the recipe has faults.
        Diverged: see `loop.train`.
    """
    shapes = {model: _shape(values) for model, values in activations.items()}
    _check(shapes)
    images, tokens, _ = next(iter(shapes.values()))
    params = parse_train(_sizes(images, tokens, recipe) | RECIPE | {"dictionary": dictionary} | recipe)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with TemporaryDirectory(dir=scratch) as folder:
        root = Path(folder)
        manifests = {model: _manifest(model, values, shapes[model], root) for model, values in activations.items()}
        data, variants = open_paired(manifests, root), {"usae": Variant(k, seed, params.pairs)}
        trained = train(variants, manifests, data, params, RunOptions(where), seed=seed)["usae"].sae
    assert isinstance(trained, UniversalSAE)
    return trained.cpu()


def _sizes(images: int, tokens: int, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Batch, epochs and warm-up for so many images, where the recipe does not say them."""
    batch = recipe.get("batch_images", min(images, max(1, BATCH_TOKENS // tokens)))
    epochs = recipe.get("epochs", -(-STEPS // -(-images // batch)))
    return {"batch_images": batch, "epochs": epochs, "warmup_epochs": WARMUP * epochs, "levels": None}


def _shape(values: Any) -> tuple[int, ...]:
    """(images, tokens, width); rows are images of one token."""
    shape = tuple(values.shape)
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def _check(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """The arrays must be of the same images and tokens.

    Raises:
        UserError: they are not; every shape is named.
    """
    faults = [f"'{model}' should be of letters, digits, - and _" for model in shapes if not NAME.fullmatch(model)]
    faults += [
        f"'{model}' should be (images, tokens, width) or (rows, width), none of them 0; found {shape}"
        for model, shape in shapes.items()
        if len(shape) != 3 or 0 in shape
    ]
    if not faults and len({shape[:2] for shape in shapes.values()}) > 1:
        faults += [f"'{model}' has {shape[0]} images of {shape[1]} tokens" for model, shape in shapes.items()]
    if len(shapes) < 2:
        faults += [f"a universal SAE is of two models or more, found {len(shapes)}"]
    if faults:
        raise UserError.listing("These activations do not belong together:", faults)


def _manifest(model: str, values: Any, shape: tuple[int, ...], root: Path) -> Manifest:
    """The array as a finished store below `root`.

    Raises:
        UserError: a value is not finite.
    """
    images, tokens, width = shape
    dtype = "float16" if str(values.dtype).removeprefix("torch.") == "float16" else "float32"
    chunk_images = chunk_images_for(tokens, width, np.dtype(dtype).itemsize, images, None)
    store = ActivationStore.create(root / model, (images, tokens, width), chunk_images, dtype, {})
    for chunk in range(store.chunks):
        span = store.span(chunk)
        block = np.asarray(values[span.start : span.stop]).astype(dtype).reshape(len(span), tokens, width)
        if not np.isfinite(block).all():
            raise UserError(
                f"'{model}' has values that are not finite, in images {span.start} to {span.stop - 1}."
            )
        store.write(chunk, block)
    return Manifest.generated(model, store)
