"""What a newcomer does first, typed as README.md has it: a folder of photographs and two networks, to the page.

pytest tests/new_user.py    # all stages: minutes, so `.ci/run` does it and `make test` does not

The networks have random weights, so that nothing is downloaded; the page has to say that this is worth nothing.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from usae.images.sources.shapes.scenes import scene

ROOT = Path(__file__).parents[1]
CODE = ("usae", "pipeline", "presets", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore")
PHOTOGRAPHS = 200
NETWORKS = ("resnet10t", "vit_tiny_patch16_224")
UNTRAINED = "`resnet10t` and `vit_tiny` have random weights"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """JPEGs of many sizes, upright and wide, in one folder."""
    folder, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(PHOTOGRAPHS):
        size = tuple(int(side) for side in draws.integers(120, 900, 2))
        Image.fromarray(scene(5, number).image).resize(size).save(folder / f"IMG_{number:04d}.JPG", format="JPEG")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, photographs):
    """The repository after the three commands; a smaller SAE and shorter studies than the second one proposes."""
    root = tmp_path_factory.mktemp("new_user") / "usae"
    for name in CODE:
        source = ROOT / name
        root.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, root / name)
    (root / "data" / "methods").mkdir(parents=True)
    shutil.copyfile(ROOT / "data" / "methods" / "README.md", root / "data" / "methods" / "README.md")
    typed(root, "git", "init", "-q")
    typed(root, "dvc", "init", "-q")
    models = (f"{name}=random" for name in NETWORKS)
    typed(root, "python", "-m", "usae", "start", "--images", str(photographs), "--models", *models)
    shorten(root / "params.yaml")
    typed(root, "dvc", "repro")
    return root


def typed(root: Path, *command: str) -> str:
    """What a command printed; it has to succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(root.parent / "site")}
    environment = os.environ | own
    for name in ("USAE_STORE", "DVC_ROOT", "PYTHONPATH"):
        environment.pop(name, None)
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def shorten(path: Path) -> None:
    """All questions stay, and all photographs; concepts, passes and repetitions are fewer."""
    params = yaml.safe_load(path.read_text())
    params["train"] |= {"dictionary": 64, "levels": [16], "epochs": 2, "warmup_epochs": 0.5}
    params["k"] = 8
    params["extract"]["grid"] = 7
    params["planted"] |= {"seeds": 1, "train": 64, "val": 32, "epochs": 1, "permutations": 19}
    params["measure"]["permutations"] = 19
    params["report"] |= {"concepts": 8, "unique": 1}
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def test_all_photographs_are_seen(checkout):
    indices = [pd.read_parquet(checkout / "data" / "images" / f"{split}.parquet") for split in ("train", "val")]
    assert sum(map(len, indices)) == PHOTOGRAPHS


def test_the_verdict_is_that_nothing_may_be_read_and_names_both_networks(checkout):
    verdict = pd.read_parquet(checkout / "reports" / "verdict.parquet").set_index("question")
    assert verdict.loc["trained networks", "level"] == "not readable"
    assert verdict.loc["trained networks", "reason"].startswith(UNTRAINED)
    assert verdict.loc["different networks", "level"] == "readable"
    assert verdict["asked"].all()
    assert json.loads((checkout / "reports" / "metrics.json").read_text())["verdict"] == "not readable"


def test_the_page_says_so_before_anything_else(checkout):
    page = (checkout / "reports" / "index.html").read_text()
    assert "Not readable" in page
    said = page[: page.index("have random weights")]
    assert "resnet10t" in said
    assert "vit_tiny" in said
    assert page.index("have random weights") < page.index('id="refused"') < page.index('class="tiles"')
