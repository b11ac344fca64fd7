"""A member is asked what stage `contrast` asks: the universal SAE has the same numbers in both."""

import numpy as np
import pandas as pd
import pytest
import torch

from usae.common.tables import write_table
from usae.evidence.metrics.contrast.measured import HeldOut
from usae.evidence.metrics.contrast.numbers import control_numbers
from usae.evidence.metrics.contrast.tables import STABILITY
from usae.evidence.metrics.funnel import Thresholds
from usae.evidence.metrics.labels.single import LabelledImages
from usae.methods.comparison.compare import tables
from usae.methods.comparison.judging import Judge
from usae.methods.comparison.members import Member
from usae.methods.comparison.tables import METHOD_CONCEPTS, METHOD_FUNNEL, METHODS
from usae.methods.fitting.reading import Reading
from usae.methods.joint.sae import SparcSAE

CPU = torch.device("cpu")


@pytest.fixture
def measure(params):
    return params.measure.model_copy(update={"permutations": 7, "agreement": 0.0})


@pytest.fixture
def stores(make_store):
    """Two models that see the same causes on thirty images of four tokens."""
    rng = np.random.default_rng(0)
    causes = rng.random((30, 4, 6)) * (rng.random((30, 4, 6)) < 0.3)
    return {m: make_store(m, (causes @ rng.normal(size=(6, 6))).astype(np.float32), 8) for m in "ab"}


def sae_of(seed):
    torch.manual_seed(seed)
    return SparcSAE({"a": 6, "b": 6}, 20, 3).eval()


@pytest.fixture
def judge(stores, measure):
    present = np.random.default_rng(1).random((30, 2)) < 0.7
    return Judge(stores, measure, 5, CPU, -np.inf, LabelledImages(np.arange(30), present))


def values(rows):
    frame = pd.DataFrame(rows)
    whole = frame[frame["target"].isna()].fillna({"mode": ""})
    return {(r.measure, r.mode or None): (r.value, r.low, r.high, r.null) for r in whole.itertuples()}


def test_the_numbers_are_those_of_stage_contrast(judge, stores, measure):
    run, start = (HeldOut(sae_of(seed), stores, measure, 5, CPU).measured() for seed in (0, 1))
    concepts = pd.concat(
        [
            run.evidence.assign(run="usae", start=False),
            start.evidence.assign(run="usae", start=True),
            start.evidence.assign(run="shuffled", start=False, q=1.0),  # a control that sets no bar
        ]
    )
    nothing = pd.DataFrame(columns=STABILITY.names)
    measured = {(False, "usae"): run, (True, "usae"): start}
    expected = control_numbers(measured, concepts, nothing, 2, Thresholds(0.0)).set_index("measure")
    found = judge.judge(Member("joint", "usae", "run", Reading(concepts=sae_of(0))))
    numbers = values(found.rows)
    for name, mode in (
        ("r2_self_mean", "single"),
        ("r2_cross_mean", "single"),
        ("lift_median", None),
        ("shared", None),
    ):
        assert numbers[name, mode][0] == expected.value[name], name
    assert numbers["lift_median", None][3] == expected["null"]["lift_median"]
    drawn = run.draws.r2_cross.std(ddof=1)
    value, low, high, _ = numbers["r2_cross_mean", "single"]
    assert (value - low, high - value) == pytest.approx((1.96 * drawn, 1.96 * drawn), abs=1e-6)
    pd.testing.assert_frame_equal(found.concepts[run.evidence.columns], run.evidence)
    assert found.funnel["concepts"].iloc[-1] == expected.value["shared"]


def test_the_tables_are_as_declared(judge, tmp_path):
    members = [
        Member("joint", "sparc", run, Reading(form, sae_of(0))) for run, form in (("run", ""), ("start", "x"))
    ]
    frames = tables(judge.judge(member) for member in members)
    for table in (METHODS, METHOD_CONCEPTS, METHOD_FUNNEL):
        write_table(table, frames[table], tmp_path / f"{table.name}.parquet")
    rows = frames[METHODS]
    assert rows.loc[rows["run"] == "run", "form"].isna().all()
    assert set(rows.loc[rows["measure"] == "label_auc", "run"]) == {"run", "start"}
    assert set(rows.loc[rows["mode"].isin(["others", "joint"]), "run"]) == {"run"}
    assert frames[METHOD_FUNNEL].groupby("run")["step"].nunique().tolist() == [5, 5]


def test_what_has_no_codes_has_its_own_r2(judge):
    r2 = {("a", "a"): 1.0, ("a", "b"): 0.25, ("b", "a"): 0.75, ("b", "b"): 1.0}
    found = judge.judge(
        Member("bounds", "linear", "run", Reading("ridge", r2=r2, others={"a": 0.5}, numbers={"n": 7}))
    )
    assert found.concepts is None
    assert found.funnel is None
    numbers = values(found.rows)
    assert numbers["r2_self_mean", "single"][0] == 1
    assert numbers["r2_cross_mean", "single"][0] == 0.5
    assert numbers["r2_mean", "others"][0] == 0.5
    assert numbers["n", None][0] == 7
