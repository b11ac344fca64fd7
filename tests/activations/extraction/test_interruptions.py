"""Nothing is lost and nothing is half there: kills, several writers at once, a full disk."""

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from usae.activations.store import ActivationStore
from usae.backbones.networks.backbone import pin
from usae.backbones.networks.building import build
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ImagesParams
from usae.images.sources.writing import write_images

ROOT = Path(__file__).parents[3]
KILLS = 20
TINY = BackboneParams(
    timm="vit_tiny_patch16_224",
    kwargs={"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0},
    weights="random",
)
WRITER = """
import sys
import numpy as np
from pathlib import Path
from usae.activations.store import ActivationStore

activations = np.random.default_rng(0).normal(size=(40, 16, 32)).astype("float16")
for _ in range(15):
    store = ActivationStore.create(Path(sys.argv[1]), activations.shape, 4, "float16", {})
    for chunk in map(int, sys.argv[2].split(",")):
        store.write(chunk, activations[4 * chunk : 4 * chunk + 4])
"""


def run(*arguments: str) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if key not in ("USAE_STORE", "DVC_ROOT")}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_twenty_kills_change_no_byte(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(96):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:02d}.png")
    images = ImagesParams(source="folder", path=str(tmp_path / "pictures"), train=None, val=None, val_share=0.25)
    write_images(tmp_path / "images", images, seed=0, workers=1)
    torch.manual_seed(0)
    pin(TINY, tmp_path / "weights", build(TINY))
    process = run("-m", "tests.support.interrupted_run", str(tmp_path), str(KILLS), "0")
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    found = json.loads(out)
    assert len(found["chunks"]) == KILLS
    assert len({chunks for chunks in found["chunks"] if 0 < chunks < 48}) >= 3  # they hit the middle
    assert set(found["differing"]) == {0}
    assert len(list(tmp_path.rglob("before/*.f64"))) == 48  # the moments before resampling are among the files
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("shares", [("0,1,2,3,4", "5,6,7,8,9"), ("0,1,2,3,4,5,6,7,8,9", "0,1,2,3,4,5,6,7,8,9")])
def test_two_processes_write_one_store(tmp_path, make_store, shares):
    """Each starts on the store again and again, sweeping the other's partial files away."""
    together = tmp_path / "together"
    processes = [run("-c", WRITER, str(together), share) for share in shares]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    activations = np.random.default_rng(0).normal(size=(40, 16, 32)).astype("float16")
    alone = make_store("alone", activations).path
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert sorted(path.relative_to(together) for path in together.rglob("*") if path.is_file()) == files
    assert all((alone / file).read_bytes() == (together / file).read_bytes() for file in files)


@contextmanager
def small_disk():
    """No file may grow beyond 1500 bytes: the system refuses the rest, as a full disk does.

    Only around the write itself: the limit holds for the test runner's own log as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    activations = np.ones((4, 16, 32), "float16")  # a chunk of 2 images has 2048 bytes, its moments 516
    store = ActivationStore.create(tmp_path / "s", activations.shape, 2, "float16", {})
    with pytest.raises(UserError) as error, small_disk():
        store.write(0, activations[:2])
    text = str(error.value)
    assert text.startswith(f"{store.chunk_path(0)} could not be written (File too large): it needs 2.05kB, ")
    assert "are free there. Make room, or move the stores (`runtime.store` or $USAE_STORE)" in text
    assert not store.done(0)
    assert {str(path.relative_to(store.path)) for path in store.path.rglob("*") if path.is_file()} == {
        "zarr.json",
        os.path.join("moments", "0.f64"),
    }


def test_after_the_disk_has_room_again_the_store_goes_on(tmp_path):
    activations = np.ones((4, 16, 32), "float16")
    store = ActivationStore.create(tmp_path / "s", activations.shape, 2, "float16", {})
    store.write(0, activations[:2])
    with pytest.raises(UserError, match="run the same command again: what is finished is kept"), small_disk():
        store.write(1, activations[2:])
    assert [store.done(j) for j in range(2)] == [True, False]
    store.write(1, activations[2:])
    assert not store.faults(deep=True)
