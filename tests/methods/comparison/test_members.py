"""What is compared: runs, starts and seeds, and which of them say what comes back from another start."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support.materials import material_of
from usae.common.layout import START, Layout
from usae.evidence.metrics.contrast.tables import STABILITY
from usae.methods.comparison.members import OpenedMethods
from usae.methods.joint.sae import FreeCrosscoder
from usae.sae.universal import UniversalSAE

RECIPE = {"sources": "one", "batch_images": 8, "epochs": 1, "aux": "none"}
FORMS = ("masked", "calibrated", "refitted")


def saved(kind, folder, seed, moved=0.0, **about):
    torch.manual_seed(seed)
    sae = kind({"a": 6, "b": 6}, 8, 3, {"train": RECIPE, **about})
    with torch.no_grad():
        next(sae.parameters()).add_(moved)
    sae.save_pretrained(folder)


@pytest.fixture
def opened(params, tmp_path):
    """A crosscoder of which another start ends nearly as the same SAE and was another before its first step."""
    rows = np.random.default_rng(0).normal(size=(60, 4, 6))
    material, layout = material_of(tmp_path, {"a": rows, "b": rows[..., ::-1]}, concepts=8, k=3), Layout(tmp_path)
    for folder in (layout.usae, layout.usae / START, layout.controls / "seed-1", layout.controls / "shuffled"):
        saved(UniversalSAE, folder, 0)
    for run, start in (("run", 1), ("seed-1", 2)):
        saved(FreeCrosscoder, layout.methods / "crosscoder" / run, 0, 1e-6 * start, method="crosscoder")
        saved(FreeCrosscoder, layout.methods / "crosscoder" / run / START, start, method="crosscoder")
    methods = params.methods.model_copy(update={"trained": ("crosscoder",), "fitted": (), "seeds": 1})
    means = {model: np.zeros(6) for model in material.models}
    nothing = pd.DataFrame(columns=STABILITY.names)
    params = params.model_copy(update={"methods": methods})
    return OpenedMethods(params, layout, material, material, material.held_out, means, nothing)


def again(opened):
    """Share that comes back by form and run, of what says it."""
    members = {member.key: member.reading.numbers for member in opened.members()}
    return {key: numbers["comes_back_share"] for key, numbers in members.items() if "comes_back_share" in numbers}


def test_run_and_start_say_what_comes_back_in_every_form(opened):
    runs = {(member.method, member.run) for member in opened.members()}
    assert runs == {("usae", run) for run in ("run", "start", "seed-1", "shuffled")} | {
        ("crosscoder", run) for run in ("run", "start", "seed-1")
    }
    shares = again(opened)
    assert set(shares) == {("crosscoder", form, run) for form in FORMS for run in ("run", "start")}
    for form in FORMS:
        assert shares["crosscoder", form, "run"] == 1
        assert shares["crosscoder", form, "start"] != 1


def test_without_further_starts_nothing_is_said(opened):
    methods = opened.params.methods.model_copy(update={"seeds": 0})
    assert again(replace(opened, params=opened.params.model_copy(update={"methods": methods}))) == {}


def test_a_start_that_ends_in_the_same_bytes_is_no_other(opened):
    """The start is not drawn where all tokens are clustered, and nothing else is where every model is read."""
    folder = opened.layout.methods / "crosscoder"
    shutil.copytree(folder / "run", folder / "seed-1", dirs_exist_ok=True)
    assert again(opened) == {}
    assert "seed-1" not in {member.run for member in opened.members() if member.method == "crosscoder"}
