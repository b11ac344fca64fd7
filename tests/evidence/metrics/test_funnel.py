"""The funnel on tables made by hand, and on streams of which it is known what they share."""

import numpy as np
import pandas as pd
import pytest

from usae.common.errors import UserError
from usae.common.tables import write_table
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts, firing_entropy
from usae.evidence.metrics.firing.evidence import SUPPORT, evidence
from usae.evidence.metrics.firing.nulls import IMAGES, CofireNulls
from usae.evidence.metrics.funnel import Thresholds, asked_steps, comes_back, common_steps, control_bar, passed
from usae.evidence.metrics.measure.funnel_tables import Funnel
from usae.evidence.metrics.measure.tables import FUNNEL

ALIVE = [0, 2, 3, 3, 3, 3, 3, 3]
FIRES = [0, 0, SUPPORT - 1, 500, 500, 500, 500, 500]
AGREEMENT = [np.nan, np.nan, 0.5, 0.5, 0.099, 0.1, 0.3, 0.5]
BEYOND = [np.nan, np.nan, 0.09, 0.09, 0.09, 0.01, 0.09, 0.09]
Q = [np.nan, np.nan, np.nan, 0.051, 0.05, 0.01, 0.01, 0.01]
MEAN = {"half-1": [0.9] * 6 + [0.71, 0.71], "half-2": [0.9] * 6 + [0.7, 0.8]}
LEAST = {"half-1": [0.8] * 6 + [0.6, 0.51], "half-2": [0.8] * 6 + [0.6, 0.6]}
STOPS = [
    "alive", "in all models", "significant", "significant", "agreement", "beyond controls", "stable", "universal",
]  # fmt: skip


def rows_of(run, alive, fires, agreement, beyond, q, start=False):
    columns = {
        "models_alive": alive, "fires_least": fires, "cofires": fires, "cofire_proportion_min": agreement,
        "null_mean": 2.0, "agreement_beyond_chance": beyond, "p": q, "q": q,
    }  # fmt: skip
    return pd.DataFrame(columns).rename_axis("concept_id").reset_index().assign(run=run, start=start)


def matches(mean, least, run="usae", start=False):
    parts = [
        pd.DataFrame({"correlation": mean[half], "correlation_least": least[half]})
        .rename_axis("concept_id")
        .reset_index()
        .assign(against=half)
        for half in mean
    ]
    return pd.concat(parts).assign(run=run, start=start)


@pytest.fixture
def tables():
    """Each concept of the run stops one step later; of 22 in controls 21 are at most 1 % beyond chance."""
    untrained = rows_of("untrained", [3] * 10, [100] * 10, [0.2] * 10, [n / 2000 for n in range(10)], [0.01] * 10)
    one = rows_of("shuffled-a", [3] * 11, [100] * 11, [0.2] * 11, [0.01] * 10 + [0.5], [0.01] * 11)
    shuffled = rows_of("shuffled", [3] * 4, [100] * 4, [0.2] * 4, [0.02] * 3 + [0.01], [0.9] * 3 + [0.01])
    before = rows_of("usae", [3] * 8, [100] * 8, [0.2] * 8, [0.02] * 8, [0.01] * 3 + [0.9] * 5, start=True)
    run = rows_of("usae", ALIVE, FIRES, AGREEMENT, BEYOND, Q)
    return pd.concat([run, before, untrained, one, shuffled])


@pytest.fixture
def stability():
    start = matches({half: [0.9, 0.9, 0.2] + [0.9] * 5 for half in MEAN}, LEAST, start=True)
    return pd.concat([matches(MEAN, LEAST), start])


def test_every_concept_stops_at_the_first_step_it_does_not_pass(tables, stability):
    found = Funnel.of(tables, stability, 3, 0.1).verdicts
    assert found["stops_at"].tolist() == STOPS
    assert pd.isna(found["why"].iloc[7])
    assert found["why"].tolist()[:7] == [
        "never fires",
        "fires in 2 of 3 models",
        "fires on 19 tokens in the model with the fewest (20 asked)",
        "co-fires on 500 tokens; with one model re-paired on 2 (q 0.051)",
        "all models fire on 9.9% of the tokens of the busiest one (10% asked)",
        "agreement is 1.0% above that with one re-paired model; controls reach 1.0%",
        "found again by 1 of 2 SAEs of one half of the images each; correlations 0.71, 0.70",
    ]


def test_counts_of_the_run_of_its_controls_and_of_the_start(tables, stability, tmp_path):
    funnel = Funnel.of(tables, stability, 3, 0.1)
    write_table(FUNNEL, funnel.counts, tmp_path / "funnel.parquet")
    left = {key: rows.set_index("step")["concepts"] for key, rows in funnel.counts.groupby(["run", "start"])}
    assert left["usae", False].tolist() == [7, 6, 4, 3, 2, 1]
    assert left["usae", True].tolist() == [8, 8, 3, 3, 3, 2]
    assert left["untrained", False].to_dict()["beyond controls"] == 0
    assert left["shuffled-a", False].to_dict()["beyond controls"] == 1
    assert left["shuffled", False].tolist() == [4, 4, 1, 1, 0]
    assert funnel.numbers["universal"] == 1
    assert funnel.numbers["universal/start"] == 2
    assert funnel.numbers["shared"] == 2
    assert funnel.numbers["shared_share/shuffled"] == 0
    own = funnel.counts.query("run == 'usae' and not start").set_index("step")
    assert own.loc["agreement", "agreement_median"] == 0.3
    assert own.loc["stable", "agreement_low"] == own.loc["stable", "agreement_high"] == 0.5


def test_without_controls_nothing_is_shared_or_universal(tables):
    """As in a quick run: the step is not asked, and no count passes for one that it was."""
    own = tables[tables["run"] == "usae"]
    assert control_bar(own, 3, 0.95) is None
    funnel = Funnel.of(own, pd.DataFrame(columns=["run", "start", "against"]).astype({"against": str}), 3, 0.1)
    assert "beyond controls" not in set(funnel.counts["step"])
    assert funnel.numbers == {"agreed": 3, "agreed/start": 3}
    assert funnel.verdicts["stops_at"].tolist() == [*STOPS[:5], *["no control"] * 3]
    assert set(funnel.verdicts["why"][5:]) == {
        "passes every step that needs no control; none was trained in this quick run"
    }


def test_levels_of_the_run_are_counted_alone(tables, stability, tmp_path):
    flat, two = Funnel.of(tables, stability, 3, 0.1), Funnel.of(tables, stability, 3, 0.1, (5, 8))
    assert flat.counts["level"].isna().all()
    whole = two.counts[two.counts["level"].isna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, flat.counts)
    assert two.numbers == flat.numbers
    levels = two.counts.dropna(subset="level").set_index(["run", "start", "level"])
    assert set(levels.index) == {("usae", start, level) for start in (False, True) for level in (1, 2)}
    assert levels.loc[("usae", False, 1), "concepts"].tolist() == [4, 3, 1, 0, 0, 0]
    assert levels.loc[("usae", False, 2), "concepts"].tolist() == [3, 3, 3, 3, 2, 1]
    assert levels.loc[("usae", False, 2), "share"].tolist()[-1] == 1 / 3
    assert levels.loc[("usae", False, 2), "agreement_median"].tolist()[:2] == [0.3, 0.3]
    write_table(FUNNEL, two.counts, tmp_path / "funnel.parquet")


def test_what_was_not_measured_is_not_asked(tables, stability):
    without = Funnel.of(tables, stability.head(0), 3, 0.1)
    assert without.counts.query("run == 'usae' and not start")["step"].tolist()[-1] == "beyond controls"
    assert without.verdicts["stops_at"].tolist()[6:] == ["universal"] * 2
    seeds = stability.assign(against="seed-1").drop_duplicates(["start", "concept_id"])
    assert Funnel.of(tables, seeds, 3, 0.1).verdicts["stops_at"].tolist()[6:] == ["universal"] * 2


def test_a_concept_comes_back_with_half_of_its_variance_and_a_quarter_in_every_model():
    mean, least = np.array([0.71, 0.7, 0.9, 0.9, np.nan]), np.array([0.51, 0.6, 0.5, 0.51, np.nan])
    assert comes_back(mean, least, 0.7).tolist() == [True, False, False, True, False]


def test_what_comes_back_is_asked_of_the_run_alone(tables, stability):
    """One half's concepts are matched with the other's, too; that is no step of the half."""
    half = rows_of("half-1", [3] * 8, [100] * 8, [0.2] * 8, [20.0] * 8, [0.01] * 8)
    other = matches({"half-2": MEAN["half-2"]}, {"half-2": LEAST["half-2"]}, run="half-1")
    found = Funnel.of(pd.concat([tables, half]), pd.concat([stability, other]), 3, 0.1)
    steps = found.counts.query("run == 'half-1'")["step"].tolist()
    assert steps[-1] == "beyond controls"


def test_one_of_the_halves_is_not_enough(tables):
    mean = {half: [0.9] * 8 for half in ("half-1", "half-2")}
    mean["half-2"][7] = 0.1
    found = Funnel.of(tables, matches(mean, {half: [0.8] * 8 for half in mean}), 3, 0.1)
    assert found.verdicts["stops_at"].tolist()[6:] == ["universal", "stable"]


def test_the_bar_is_of_all_controls_with_nothing_to_share_together(tables):
    assert control_bar(tables, 3, 0.95) == 0.01
    assert control_bar(tables, 3, 1.0) == 0.5
    beyond = [0.4] * 17 + [0.42, 0.42, 0.9]
    one = rows_of("untrained-language", [3] * 19 + [2], [100] * 20, [0.2] * 20, beyond, [0.01] * 20)
    both = pd.concat([tables, one])
    assert control_bar(both, 3, 0.95) == 0.42  # of 41 one is higher
    assert control_bar(both, 3, 0.4) == 0.01
    started = one.assign(start=True, agreement_beyond_chance=0.99)
    assert control_bar(pd.concat([both, started]), 3, 0.95) == 0.42
    unsure = one.assign(q=0.051, agreement_beyond_chance=0.99)
    assert control_bar(pd.concat([tables, unsure]), 3, 0.95) == 0.01
    assert control_bar(tables.assign(q=0.9), 3, 0.95) == -np.inf  # nothing is significant in any
    assert control_bar(tables[tables["run"] == "usae"], 3, 0.95) is None  # there is none


def test_more_support_is_asked_with_a_false_discovery_rate_of_its_own():
    """With the four rare concepts left out, the last one's p of .03 is one of two and no longer one of six."""
    p = [0.5, 0.5, 0.5, 0.5, 0.03, 0.001]
    rows = rows_of("usae", [3] * 6, [30] * 4 + [80] * 2, [0.5] * 6, [5.0] * 6, p).assign(
        q=[1, 1, 1, 1, 0.09, 0.006]
    )
    usual, more = (
        common_steps(rows, 3, None, Thresholds(0.1, support=support))[2].passed for support in (SUPPORT, 50)
    )
    assert usual.tolist() == [False] * 5 + [True]
    assert more.tolist() == [False] * 4 + [True] * 2


def test_without_controls_nothing_is_said(tmp_path):
    with pytest.raises(UserError, match="Expected the table .*control_concepts.parquet"):
        Funnel.load(tmp_path, 3, 0.1)
    funnel = Funnel.none(5)
    assert funnel.verdicts["stops_at"].isna().all()
    assert len(funnel.verdicts) == 5
    assert funnel.counts.empty
    assert funnel.numbers == {}


def test_the_order_of_rows_does_not_matter(tables, stability):
    turned = Funnel.of(tables.iloc[::-1], stability.iloc[::-1], 3, 0.1)
    pd.testing.assert_frame_equal(turned.verdicts, Funnel.of(tables, stability, 3, 0.1).verdicts)


def streams(rng, shared, private, images=120, tokens=16):
    """Fires (3, images, tokens, concepts): shared causes seen by all, and as many private ones at one index."""
    rates = rng.uniform(0.05, 0.25, shared + private)
    clumps = rng.random((3, images, 1, shared + private)) < 3 * rates
    clumps[:, ..., :shared] = clumps[:1, ..., :shared]
    fires = clumps & (rng.random((3, images, tokens, shared + private)) < 0.4)
    fires[..., :shared] = fires[:1, ..., :shared] & (rng.random((3, images, tokens, shared)) < 0.9)
    return fires


def judged(fires):
    """(c,) what passes from alive to agreement; `fires` (models, images, tokens, concepts)."""
    models, images, _, concepts = fires.shape
    indices = np.broadcast_to(np.arange(concepts, dtype=np.uint16), fires.shape[1:])
    chunks = [CodeChunk(np.arange(images), indices, model.astype(np.float32)) for model in fires]
    firing, nulls = FiringCounts(models, concepts, 0.1), CofireNulls(models, concepts, 0.1, 99, 0, images)
    firing.update(chunks)
    nulls.update(chunks)
    nulls.finish()
    rows = evidence(firing, nulls.counts[IMAGES, tuple(range(models))])
    return firing, rows, passed(asked_steps(rows, None, models, -np.inf, Thresholds(0.1)))


def test_equally_busy_private_concepts_are_not_called_shared():
    """400 indices at which three models have a concept of their own, beside 40 that they share."""
    shared = 40
    firing, _, called = judged(streams(np.random.default_rng(0), shared, 400))
    assert np.median(firing_entropy(firing.fires)[shared:]) > 0.95
    assert called[:shared].all()
    assert not called[shared:].any()


@pytest.mark.parametrize("stranger", [0, 1, 2])
def test_what_two_models_share_is_not_shared_by_all(stranger):
    """40 concepts of all, and 200 that two models share while the third one fires at random, as often."""
    shared, pairs = 40, 200
    rng = np.random.default_rng(stranger)
    fires = streams(rng, shared + pairs, 0)
    fires[stranger, ..., shared:] = fires[stranger][rng.permutation(120)][..., shared:]
    _, rows, called = judged(fires)
    assert called[:shared].all()
    assert called[shared:].mean() <= 0.02
    assert (rows["q"] <= 0.05)[shared:].mean() <= 0.05
