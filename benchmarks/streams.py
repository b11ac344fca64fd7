"""A whole run of many models, in seconds: two small networks with random weights, each read at several layers.

    python -m benchmarks.streams [--layers 8] [--folder FOLDER]

Runs every stage in this process, one after another, and prints its seconds and the peak memory so far. With
--folder the run stays there: reports/index.html is its page, reports/depth.parquet says how layers agree.
"""

import argparse
import contextlib
import importlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
NETWORKS = {"early": ("vit_tiny_patch16_224", 24), "late": ("deit_tiny_patch16_224", 32)}  # timm name, width
OF_EACH = ("weights", "extract", "untrained")
STAGES = [
    "train",
    "controls",
    "encode",
    "contrast",
    "measure",
    "ood",
    "interventions",
    "onboarding",
    "planted",
    "compare",
    "maximise",
    "report",
]
SIZES: dict[str, dict[str, Any]] = {
    "images": {"train": 48, "val": 48},
    "extract": {"grid": 4, "chunk_images": 16},
    "train": {"dictionary": 48, "levels": None, "epochs": 3, "batch_images": 16},
    "encode": {"train_images": 16},
    "methods": {"trained": [], "fitted": ["linear"], "images": 16, "epochs": None},
    "measure": {"permutations": 9},
    "planted": {"seeds": 1, "train": 32, "val": 16, "dictionary": 98, "epochs": 1, "permutations": 9},
    "interventions": {"onboarding_images": [10, 32], "readout_images": 48},
    "ood": {"most": 8},
    "maximise": {"rule": "energy", "concepts": 1, "steps": 1, "starts": 1, "crops": 1, "size": 64, "random": 1},
    "report": {"concepts": 6, "unique": 0, "images": 3, "own_images": 1},
    "runtime": {"threads": 1},
}


def main() -> None:
    """Run all stages, and print a line for each."""
    options = _options()
    with contextlib.ExitStack() as stack:
        kept = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept.mkdir(parents=True, exist_ok=True)
        params = streams(yaml.safe_load((ROOT / "params.yaml").read_text()), options.layers)
        stack.enter_context(inside(kept, params))
        run("images")
        for stage in OF_EACH:
            run(stage, *params["models"])
        for stage in STAGES:
            run(stage)


def streams(params: dict[str, Any], layers: int) -> dict[str, Any]:
    """`params` with a model for every layer of both networks: entries of the zoo that differ in `layer` alone."""
    for section, values in SIZES.items():
        params[section] |= values
    params["k"], params["zoo"] = 4, {}
    for name, (network, width) in NETWORKS.items():
        size = {"img_size": 64, "embed_dim": width, "depth": layers, "num_heads": 2, "num_classes": 0}
        backbone = {"timm": network, "kwargs": size, "weights": "random"}
        for layer in range(layers):
            params["zoo"][f"{name}-{layer}"] = {"backbone": backbone, "layer": layer, "norm": False}
    params["models"] = list(params["zoo"])
    return params


def run(stage: str, *models: str) -> None:
    """One stage, for each of the models where it asks for one."""
    began = time.perf_counter()
    command = importlib.import_module(f"pipeline.{stage}").main
    for arguments in [[model] for model in models] or [[]]:
        sys.argv = [stage, *arguments]
        command()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{stage:14} {time.perf_counter() - began:7.1f} s {peak:7.0f} MB at most so far", flush=True)


@contextlib.contextmanager
def inside(folder: Path, params: dict[str, Any]) -> Iterator[None]:
    """In the folder of a run with these parameters."""
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")  # stage `report` looks up there what it reads
    with contextlib.chdir(folder):
        yield


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=8, help="of each of the two networks; a model each")
    parser.add_argument("--folder", type=Path, help="where the run stays (default: it is removed)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
