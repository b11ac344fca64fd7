"""The notebook answers its questions about a finished run, and the answers are those of the tables."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.support.synthetic_run import CONCEPTS, MODELS, K, synthetic_run
from usae.backbones.networks.backbone import Backbone
from usae.backbones.weights.obtaining import obtain
from usae.common.files.json_files import read_json
from usae.common.params import BackboneParams
from usae.common.tables import write_table
from usae.evidence.metrics.measure.tables import SUMMARY
from usae.sae.universal import UniversalSAE
from usae.showing.results.run import Run

pytest.importorskip("marimo", reason="marimo is not installed (it is in the extra `dev`)")
NOTEBOOK = Path(__file__).parents[1] / "notebooks/concepts.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    synthetic_run(root)
    write_summary(root, 0.25)
    return Run.load(root)


def write_summary(root, r2):
    write_table(SUMMARY, pd.DataFrame({"name": ["r2_self_mean"], "value": [r2]}), root / "reports/summary.parquet")


def asked(**settings):
    """What the notebook's cells define, with `settings` in the environment."""
    specification = importlib.util.spec_from_file_location("notebook", NOTEBOOK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, str(value))
        _, values = module.app.run()
    return values


@pytest.fixture(scope="module")
def answers(run):
    return asked(USAE_RUN=run.root)


def test_r2_is_the_matrix_of_the_table(answers):
    assert answers["r2"].loc["supervised", "distilled"] == 0.36
    assert list(answers["r2"].index) == list(MODELS)


def test_shared_concepts_are_ranked_by_agreement(answers, run):
    best = run.reports["concepts"]["cofire_proportion_min"].max()
    assert answers["shared"]["cofire_proportion_min"].iloc[0] == best
    assert answers["shared"]["cofire_proportion_min"].is_monotonic_decreasing


def test_own_concepts_are_of_one_model(answers):
    assert (answers["own"]["share"] == 1.0).iloc[:9].all()


def test_the_heatmap_is_that_of_the_best_image(answers, run):
    exemplars = run.reports["exemplars"].query("concept_id == @answers['concept'] and ranking == 'supervised'")
    assert answers["heatmap"].max() == pytest.approx(float(exemplars["code"].max()))


def test_neighbours_are_nearest_by_cosine(answers, run):
    dictionary = run.usae().dictionary("language").detach().numpy()
    cosines = dictionary @ dictionary[answers["concept"]]
    second = int(np.argsort(-cosines)[1])
    assert answers["neighbours"]["language"].iloc[0].startswith(f"{second} (")


@pytest.fixture
def other(run, tmp_path):
    """A copy of the run with its concepts in the opposite order, another k, and one number of its own."""
    root = tmp_path / "other"
    shutil.copytree(run.root, root)
    sae = run.usae()
    state = {
        name: value.flip(0) if value.ndim and len(value) == CONCEPTS else value
        for name, value in sae.state_dict().items()
    }
    sae.load_state_dict(state)
    sae.save_pretrained(root / "data/usae")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace(f"k: {run.params.k}\n", "k: 5\n", 1))
    write_summary(root, 0.75)
    return root


def test_another_run_is_set_beside_this_one_and_its_concepts_are_found_again(run, other):
    answers = asked(USAE_RUN=run.root, USAE_OTHER=other)
    assert list(answers["changed"].index) == ["k"]
    assert answers["changed"].loc["k", "other"] == 5
    assert answers["numbers"].loc["r2_self_mean", "difference"] == 0.5
    assert list(answers["found_again"]["in_other"]) == list(range(CONCEPTS))[::-1]
    assert answers["found_again"]["cosine"].to_numpy() == pytest.approx(1, abs=1e-5)
    assert answers["by_chance"] < 0.9


def test_a_picture_is_read_by_every_model(run, tmp_path):
    root, picture, widths, models = tmp_path / "run", tmp_path / "mine.png", {}, {}
    shutil.copytree(run.root, root)
    for slug in MODELS:
        obtain(BackboneParams(timm="test_resnet", weights="random", size=64), root / "data/weights" / slug, seed=1)
        backbone = Backbone.load(root / "data/weights" / slug, grid=4)
        widths[slug] = backbone.tokens(torch.zeros(1, 3, backbone.size, backbone.size)).shape[-1]
        identity = read_json(root / "data/weights" / slug / "config.json")
        models[slug] = {"backbone": identity, "layer": -1, "norm": True, "grid": 4, "fit": "squash"}
    shutil.rmtree(root / "data/usae")
    UniversalSAE(widths, CONCEPTS, K, {"models": models, "seed": 1}).eval().save_pretrained(root / "data/usae")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(picture)
    answers = asked(USAE_RUN=root, USAE_PICTURE=picture)
    best = answers["seen"].index[0]
    for slug in MODELS:
        assert answers["maps"][slug].codes.sum() == pytest.approx(answers["seen"].loc[best, slug], rel=1e-5)
    least = answers["seen"][list(MODELS)].min(axis=1)
    assert least.is_monotonic_decreasing
    assert least.iloc[0] > 0
