"""The funnel on tables made by hand, and on streams of which it is known what they share."""

import numpy as np
import pandas as pd
import pytest

from usae.common.errors import UserError
from usae.common.tables import write_table
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.contrast.contrast import Contrast
from usae.evidence.metrics.firing.counts import FiringCounts, energy, firing_entropy
from usae.evidence.metrics.firing.nulls import CofireNulls
from usae.evidence.metrics.funnel import SUPPORT, untrained_bar
from usae.evidence.metrics.measure.funnel_tables import Funnel
from usae.evidence.metrics.measure.tables import FUNNEL

ALIVE = [0, 2, 3, 3, 3, 3, 3, 3]
COFIRES = [0, 0, SUPPORT - 1, 500, 500, 500, 500, 500]
LIFT = [np.nan, np.nan, 90.0, 90.0, 8.0, 90.0, 90.0, 90.0]
Q = [np.nan, np.nan, 0.01, 0.2, 0.01, 0.05, 0.01, 0.01]
COSINES = {"seed-1": [0.9] * 5 + [0.69, 0.71, 0.3], "seed-2": [0.9] * 5 + [0.7, 0.1, 0.8]}
AGREES = [None, None, True, True, True, True, False, True]


def evidence(run, alive, cofires, lift, q):
    columns = {"models_alive": alive, "cofires": cofires, "null_mean": 2.0, "lift": lift, "q": q}
    return pd.DataFrame(columns).rename_axis("concept_id").reset_index().assign(run=run)


def stability(cosines):
    parts = [
        pd.DataFrame({"cosine": values}).rename_axis("concept_id").reset_index() for values in cosines.values()
    ]
    return pd.concat([part.assign(run=run) for run, part in zip(cosines, parts, strict=True)])


@pytest.fixture
def tables():
    """Each concept of the run stops one step later; at least 95 % of the untrained lifts are at most 10."""
    lifts = [*range(1, 11), 99.0]
    untrained = evidence("untrained", [3] * 10 + [2], [100] * 11, lifts, [0.01] * 11)
    shuffled = evidence("shuffled", [3] * 4, [100] * 4, [20.0] * 4, [0.9, 0.9, 0.9, 0.01])
    return pd.concat([evidence("usae", ALIVE, COFIRES, LIFT, Q), untrained, shuffled])


@pytest.fixture
def ablation():
    columns = {"sae": "usae", "agreement": 0.25, "q": 0.5, "agrees": pd.array(AGREES, dtype="boolean")}
    return pd.DataFrame(columns).rename_axis("concept_id").reset_index()


def test_every_concept_stops_at_the_first_step_it_does_not_pass(tables, ablation):
    found = Funnel.of(tables, stability(COSINES), ablation, 3).verdicts
    assert found["stops_at"].tolist() == [
        "alive", "in all models", "significant", "significant",
        "beyond untrained", "stable", "causal", "universal",
    ]  # fmt: skip
    assert pd.isna(found["why"].iloc[7])
    assert found["why"].tolist()[:7] == [
        "never fires",
        "fires in 2 of 3 models",
        "co-fires on 19 tokens (20 asked), re-paired images give 2 (q 0.01)",
        "co-fires on 500 tokens (20 asked), re-paired images give 2 (q 0.2)",
        "lift 8 over re-paired images; untrained networks reach 10",
        "found in 1 of 3 seeds; best match 0.70",
        "agreement of its effects 0.25 (q 0.5)",
    ]


def test_counts_of_the_run_and_of_its_controls(tables, ablation, tmp_path):
    funnel = Funnel.of(tables, stability(COSINES), ablation, 3)
    write_table(FUNNEL, funnel.counts, tmp_path / "funnel.parquet")
    left = {run: rows.set_index("step")["concepts"].to_dict() for run, rows in funnel.counts.groupby("run")}
    assert left["usae"] == {
        "alive": 7, "in all models": 6, "significant": 4, "beyond untrained": 3, "stable": 2, "causal": 1,
    }  # fmt: skip
    assert left["untrained"] == {"alive": 11, "in all models": 10, "significant": 10, "beyond untrained": 0}
    assert left["shuffled"] == {"alive": 4, "in all models": 4, "significant": 1, "beyond untrained": 1}
    assert funnel.numbers == {
        "universal": 1,
        "universal_share": 0.142857,
        "universal_share/untrained": 0.0,
        "universal_share/shuffled": 0.25,
    }


def test_what_was_not_measured_is_not_asked(tables, ablation):
    without = Funnel.of(tables, stability({"gaussian": [0.1] * 8}), ablation.head(0), 3)
    assert without.counts.query("run == 'usae'")["step"].tolist()[-1] == "beyond untrained"
    assert without.verdicts["stops_at"].tolist()[5:] == ["universal"] * 3
    causal = Funnel.of(tables, stability(COSINES), None, 3)
    assert causal.verdicts["stops_at"].tolist()[5:] == ["stable", "universal", "universal"]


def test_one_further_seed_has_to_find_the_concept_too(tables):
    found = Funnel.of(tables, stability({"seed-1": COSINES["seed-1"]}), None, 3).verdicts["stops_at"].tolist()
    assert found[5:] == ["stable", "universal", "stable"]


def test_the_bar_is_the_higher_of_the_two_untrained_controls(tables):
    one = evidence("untrained-one", [3, 3, 3], [100, 100, 1], [40.0, 42.0, 1e6], [0.01, 0.01, 0.01])
    assert untrained_bar(tables, 3) == 10
    assert untrained_bar(pd.concat([tables, one]), 3) == 42
    assert untrained_bar(tables[tables["run"] == "usae"], 3) == -np.inf


def test_concepts_that_never_co_fire_in_the_null_raise_the_bar(tables):
    boundless = evidence("untrained-one", [3, 3, 3], [100] * 3, [1.0, 2.0, np.nan], [0.01] * 3)
    assert untrained_bar(pd.concat([tables, boundless]), 3) == np.inf


def test_without_controls_nothing_is_said(tmp_path):
    with pytest.raises(UserError, match="Expected the table .*control_concepts.parquet"):
        Funnel.load(tmp_path, 3)
    funnel = Funnel.none(5)
    assert funnel.verdicts["stops_at"].isna().all()
    assert len(funnel.verdicts) == 5
    assert funnel.counts.empty
    assert funnel.numbers == {}


def test_the_order_of_rows_does_not_matter(tables, ablation):
    turned = Funnel.of(tables.iloc[::-1], stability(COSINES).iloc[::-1], ablation.iloc[::-1], 3)
    expected = Funnel.of(tables, stability(COSINES), ablation, 3)
    pd.testing.assert_frame_equal(turned.verdicts, expected.verdicts)


def streams(rng, shared, private, images=120, tokens=16):
    """Fires (3, images, tokens, concepts): shared causes seen by all, and as many private ones at one index."""
    rates = rng.uniform(0.05, 0.25, shared + private)
    clumps = rng.random((3, images, 1, shared + private)) < 3 * rates
    clumps[:, ..., :shared] = clumps[:1, ..., :shared]
    fires = clumps & (rng.random((3, images, tokens, shared + private)) < 0.4)
    fires[..., :shared] = fires[:1, ..., :shared] & (rng.random((3, images, tokens, shared)) < 0.9)
    return fires


def test_equally_busy_private_concepts_are_not_called_universal():
    """400 indices at which three models have a concept of their own, beside 40 that they share."""
    shared, private = 40, 400
    fires = streams(np.random.default_rng(0), shared, private)
    concepts = shared + private
    indices = np.broadcast_to(np.arange(concepts, dtype=np.uint16), fires.shape[1:])
    chunks = [CodeChunk(np.arange(120), indices, model.astype(np.float32)) for model in fires]
    firing, nulls = FiringCounts(3, concepts, 0.1), CofireNulls(3, concepts, 0.1, 99, 0, 120)
    firing.update(chunks)
    nulls.update(chunks)
    nulls.finish()
    found = Contrast(firing, nulls.counts["images", (0, 1, 2)], energy(firing.mean_codes), pd.DataFrame())
    universal = Funnel.of(found.concepts("usae"), stability({"gaussian": []}), None, 3).verdicts["stops_at"]
    assert np.median(firing_entropy(firing.fires)[shared:]) > 0.95
    assert (universal[:shared] == "universal").all()
    assert (universal[shared:] == "universal").mean() < 0.05


def test_the_bar_is_passed_by_at_most_5_percent_of_the_untrained_concepts():
    untrained = evidence("untrained", [3] * 41, [100] * 41, np.arange(41.0), [0.01] * 41)
    assert untrained_bar(untrained, 3) == 38
