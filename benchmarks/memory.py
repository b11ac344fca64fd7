"""Peak memory of whole training runs at the paper's sizes: stores on disk, optimisers, checkpoints, the log.

    python -m benchmarks.memory [--images 512] [--steps 20]

Writes stores of random values, and trains with the default recipe and with that of presets/official.yaml. Each run
has a process of its own, and is then gone on with by another one: loading a checkpoint takes memory too.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.loading import written
from usae.activations.sampling import PairedActivations
from usae.activations.store import ActivationStore
from usae.activations.store.manifests import Manifest, SplitManifest
from usae.common.params import TrainParams, load_params
from usae.common.variant import Variant
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.loop import RunOptions, train

WIDTHS = {"vit": 768, "dinov2": 384, "siglip": 768}
SIZES = {"dictionary": 6144, "batch_images": 32}
K, GRID, CHUNK = 32, 14, 128
RECIPES = {"default recipe": "params.yaml", "official recipe": "presets/official.yaml"}
WAYS = {"whole images": {"shuffle_tokens": False}, "shuffled tokens": {"shuffle_tokens": True}}


def main() -> None:
    """Print a line for each recipe and way of making batches: seconds, and the peak of the process."""
    options = _options()
    print(f"{options.images} images, {options.steps} steps, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shape = argparse.Namespace(images=options.images, tokens=GRID**2, chunk=CHUNK)
        for model, width in WIDTHS.items():
            written(folder / model, width, shape)
        for way, keys in WAYS.items():
            for recipe, path in RECIPES.items():
                params = load_params(Path(path)).train.model_copy(update=SIZES | keys)
                runs = [(folder, f"{recipe}-{way}", params, steps) for steps in (options.steps, options.steps + 4)]
                (seconds, first), (_, second) = (_apart(*run) for run in runs)
                print(
                    f"{recipe:16} {way:16} {seconds:6.1f} CPU-s, peak {first:5.2f} GB, gone on {second:5.2f} GB",
                    flush=True,
                )


def peak(folder: Path, name: str, params: TrainParams, steps: int) -> tuple[float, float]:
    """CPU seconds and peak resident gigabytes of this process, after a run that may have been begun by another."""
    torch.set_num_threads(1)
    stores = {model: ActivationStore.open(folder / model) for model in WIDTHS}
    manifests = {model: manifest_of(model, store) for model, store in stores.items()}
    running = RunOptions(torch.device("cpu"), checkpoints=Checkpoints(folder / name, {"run": name}, 0.2))
    data, began = PairedActivations(stores), time.process_time()
    train({"usae": Variant(K, 0)}, manifests, data, params, running, seed=0, steps=steps)
    return time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def manifest_of(model: str, store: ActivationStore) -> Manifest:
    """Of random values with mean 0 and standard deviation 1."""
    split = SplitManifest(store.path.name, store.images, "", store.chunk_images, ())
    return Manifest(
        model=model,
        backbone={},
        layer=-1,
        norm=True,
        grid=GRID,
        fit="squash",
        dtype=str(store.dtype),
        width=store.width,
        mean=0.0,
        std=1.0,
        statistics="after",
        statistics_images=store.images,
        channel_mean=(0.0,) * store.width,
        channel_std=(1.0,) * store.width,
        train=split,
        val=replace(split),
    )


def _apart(*arguments: Any) -> tuple[float, float]:
    """`peak` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, arguments)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=512, help="of the generated stores")
    parser.add_argument("--steps", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
