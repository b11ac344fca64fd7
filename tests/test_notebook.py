"""The notebook answers its questions about a finished run, and the answers are those of the tables."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.support.synthetic_run import MODELS, synthetic_run

pytest.importorskip("marimo", reason="marimo is not installed (it is in the extra `dev`)")
NOTEBOOK = Path(__file__).parents[1] / "notebooks/concepts.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def answers(run):
    specification = importlib.util.spec_from_file_location("notebook", NOTEBOOK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USAE_RUN", str(run.root))
        _, values = module.app.run()
    return values


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
