"""What a newcomer does first, typed as README.md has it: a folder of photographs and two networks, to the page.

pytest tests/new_user.py    # all stages: minutes, so `.ci/run` does it and `make test` does not

Two networks with random weights, so that nothing is downloaded: the page has to say that this is worth nothing.
And two trained ones with 200 real photographs, where they are in data/external (its README.md: what goes there).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from usae.evidence.verdict.levels import LEVELS, WORDS, level_of
from usae.images.sources.shapes.scenes import scene

ROOT = Path(__file__).parents[1]
CODE = ("usae", "pipeline", "presets", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore")
PHOTOGRAPHS = 200
NETWORKS = ("resnet10t", "vit_tiny_patch16_224")
UNTRAINED = "`resnet10t` and `vit_tiny` have random weights"
EXTERNAL = ROOT / "data" / "external"
PRESET = "imagenet-sample"
TRAINED = ("mobilenet_v2", "mobilenet_v1")


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
    root = cloned(tmp_path_factory.mktemp("new_user") / "usae")
    models = (f"{name}=random" for name in NETWORKS)
    typed(root, "python", "-m", "usae", "start", "--images", str(photographs), "--models", *models)
    shorten(root / "params.yaml")
    typed(root, "dvc", "repro")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The repository after a preset's two commands, with 200 of its photographs and two of its networks."""
    for needed in (EXTERNAL / PRESET, EXTERNAL / "weights" / "mobilenet_v2_1.0_224.safetensors"):
        if not needed.exists():
            pytest.skip(f"no {needed.relative_to(ROOT)}: data/external/README.md says what goes there")
    root = cloned(tmp_path_factory.mktemp("trained") / "usae")
    (root / "data" / "external").symlink_to(EXTERNAL.resolve())
    shutil.copyfile(root / "presets" / f"{PRESET}.yaml", root / "params.yaml")
    shorten(root / "params.yaml")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["models"] = list(TRAINED)
    params["train"]["epochs"] = 12
    params["images"] |= {"train": PHOTOGRAPHS * 4 // 5, "val": PHOTOGRAPHS // 5}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    typed(root, "dvc", "repro")
    return root


def cloned(root: Path) -> Path:
    """The repository's files, with git and DVC beside them."""
    root.mkdir()
    for name in CODE:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, root / name)
    (root / "data" / "methods").mkdir(parents=True)
    shutil.copyfile(ROOT / "data" / "methods" / "README.md", root / "data" / "methods" / "README.md")
    typed(root, "git", "init", "-q")
    typed(root, "dvc", "init", "-q")
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


def test_trained_networks_are_judged_by_what_was_measured(trained):
    verdict = table(trained, "verdict").set_index("question")
    assert verdict["asked"].all()
    assert verdict.loc["trained networks", "level"] == "readable"
    assert verdict.loc["different networks", "level"] == "readable"
    explained = table(trained, "reconstruction").query("sae == 'usae' and source == target")["r2_channel"]
    assert verdict.loc["own variance", "value"] == pytest.approx(explained.min(), abs=1e-6)
    funnel = table(trained, "funnel")
    funnel = funnel[funnel["run"].eq("usae") & funnel["level"].isna()].set_index(["start", "step"])["concepts"]
    shared, before = (funnel[start, "beyond controls"] for start in (False, True))
    assert f"{before} concepts are shared before the first step, {shared}" in verdict.loc["the start", "reason"]
    assert verdict.loc["other images", "value"] == pytest.approx(funnel[False, "stable"] / shared, abs=1e-6)
    level = json.loads((trained / "reports" / "metrics.json").read_text())["verdict"]
    assert level == max(verdict["level"], key=LEVELS.index)
    assert (verdict["level"].eq("readable") == verdict["advice"].eq("")).all()


def test_their_page_gives_each_reason_before_a_number_of_concepts(trained):
    page, verdict = (trained / "reports" / "index.html").read_text(), table(trained, "verdict")
    said = unescape(re.sub("<[^>]*>", "", page[: page.index('class="tiles"')])).replace("\u00a0", " ")
    assert WORDS[level_of(verdict)] in said
    for reason in verdict.loc[verdict["level"] != "readable", "reason"]:
        assert reason.replace("`", "") in said


def table(root: Path, name: str) -> pd.DataFrame:
    """A table of the report."""
    return pd.read_parquet(root / "reports" / f"{name}.parquet")
