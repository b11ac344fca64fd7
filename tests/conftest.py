"""Shared fixtures: small real things (networks, images, stores), made afresh in a temporary folder."""

import gc
import os
import signal
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jaxtyping import install_import_hook
from PIL import Image

# The shapes in signatures are checked while tests run, and only then.
CHECKED = [
    "usae.sae.layers",
    "usae.sae.sparse",
    "usae.sae.top_k",
    "usae.sae.universal",
    "usae.methods.joint",
    "usae.activations.sampling",
    "usae.backbones.networks.feature_maps",
    "usae.images.pixels.geometry",
]
STEP = Path(__file__).parents[1] / "usae" / "training" / "step"
CHECKED += [f"usae.training.step.{file.stem}" for file in STEP.glob("*.py")]  # not its kernels, which Triton reads
install_import_hook(CHECKED, "beartype.beartype")

from tests.support import worlds  # noqa: E402
from usae.common.params import Params, parse_params  # noqa: E402

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "params.yaml").read_text())
os.environ["DVC_NO_ANALYTICS"] = "1"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs inherit it, and pass it on
    signal.signal(signal.SIGINT, signal.default_int_handler)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is loaded: its kernels run without a GPU then
torch.set_num_threads(1)  # for small arrays: further threads would only wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: of several processes none is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """What is imported stays: it need not be looked through for garbage in every test."""
    gc.freeze()


@pytest.fixture
def raw_params() -> dict:
    """params.yaml as plain values, to be changed and parsed."""
    return deepcopy(SETTINGS)


@pytest.fixture
def params(raw_params) -> Params:
    return parse_params(raw_params)


@pytest.fixture(scope="module")
def module_params() -> Params:
    return parse_params(deepcopy(SETTINGS))


@pytest.fixture
def make_store(tmp_path):
    """`worlds.store_at`, by name."""
    return lambda name, *arguments, **options: worlds.store_at(tmp_path / name, *arguments, **options)


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
def world(tmp_path):
    return worlds.two_models(tmp_path)


@pytest.fixture
def recipe():
    return worlds.RECIPE
