"""The verdict: one small change to a sound run for each reason, and what is said where nobody asked."""

import shutil
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_model

from usae.activations.store.manifests import Manifest, SplitManifest
from usae.backbones.networks.backbone import Identity
from usae.backbones.weights.obtaining import obtain, trained
from usae.common.params import BackboneParams
from usae.common.tables import write_table
from usae.evidence.verdict import bars
from usae.evidence.verdict.answers import Evidence, r2_text
from usae.evidence.verdict.levels import (
    CAUTION,
    READABLE,
    UNREADABLE,
    is_readable,
    level_of,
    reasons,
    verdict_line,
)
from usae.evidence.verdict.tables import VERDICT
from usae.evidence.verdict.verdict import QUESTIONS, verdict_frame

SPLIT = SplitManifest("store", 100, "digest", 64, ("0", "0"))


def manifest(model: str, tokens: float, **backbone: object) -> Manifest:
    return Manifest(
        model=model, backbone={"weights": "hub", "sha256": model, **backbone}, layer=-1, norm=True, grid=2,
        fit="squash", dtype="float16", width=2, mean=0.0, std=1.0, statistics="after", statistics_images=100,
        channel_mean=(tokens, tokens), channel_std=(1.0, 1.0), train=SPLIT, val=SPLIT,
    )  # fmt: skip


def reconstruction() -> pd.DataFrame:
    rows = [
        ("usae", "a", "a", 0.8, 1.0), ("usae", "a", "b", 0.3, 0.35), ("usae", "b", "a", 0.4, 0.35),
        ("usae", "b", "b", 0.7, 1.0), ("independent", "a", "a", 0.9, 1.0), ("independent", "b", "b", 0.9, 1.0),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["sae", "source", "target", "r2_channel", "r2_ridge"])
    return pd.concat([frame.assign(split="val"), frame.assign(split="train", r2_channel=-9.0, r2_ridge=np.nan)])


def controls() -> pd.DataFrame:
    rows = [
        ("usae", "r2_cross_mean", 0.35, 0.1, 0.25, 0.2, 0.3, np.nan, np.nan),
        ("usae", "shared", 40, 24, 16, 12, 20, np.nan, np.nan),
        ("usae", "universal", 22, 19, 3, 1, 5, np.nan, np.nan),
        ("shuffled", "r2_cross_mean", 0.03, 0.0, 0.03, 0.0, 0.1, 0.3, 0.34),
        ("shuffled", "shared", 3, 0, 3, 0, 6, np.nan, np.nan),
        ("seed-1", "shared", 39, 20, 19, 12, 25, np.nan, np.nan),
    ]  # fmt: skip
    names = ["run", "measure", "value", "start", "adds", "adds_low", "adds_high", "run_less_low", "run_less_high"]
    return pd.DataFrame(rows, columns=names)


def training(late: float = 0.1) -> pd.DataFrame:
    """A loss that falls by 1, `late` of it in the second half."""
    loss = np.repeat([2.0, 1.0 + late, 1.0], [20, 40, 40])
    return pd.DataFrame({"step": range(100), "loss": loss})


def planted(others: float = 0.0, shared: float = 1.0) -> pd.DataFrame:
    rows = [("matched", "called universal", "funnel", "others", others),
            ("matched", "called universal", "funnel", "shared", shared),
            ("shuffled", "called universal", "funnel", "others", 1.0),
            ("matched", "called universal", "entropy", "others", 1.0)]  # fmt: skip
    return pd.DataFrame(rows, columns=["setting", "quantity", "by", "kind", "value"])


@pytest.fixture
def sound() -> Evidence:
    tables = {
        "reconstruction": reconstruction(),
        "controls": controls(),
        "training": training(),
        "planted": planted(),
        "concepts": pd.DataFrame({"fires": [1200, 0]}),
    }
    return Evidence({"a": manifest("a", 0.1), "b": manifest("b", 0.2)}, tables)


def other(evidence: Evidence, **tables: pd.DataFrame) -> Evidence:
    return replace(evidence, tables={**evidence.tables, **tables})


def with_cell(frame: pd.DataFrame, run: str, measure: str, **cells: float) -> pd.DataFrame:
    changed = frame.copy()
    changed.loc[(changed["run"] == run) & (changed["measure"] == measure), list(cells)] = list(cells.values())
    return changed


def with_r2(sae: str, source: str, target: str, **cells: float) -> pd.DataFrame:
    changed = reconstruction()
    rows = (changed["sae"] == sae) & (changed["source"] == source) & (changed["target"] == target)
    changed.loc[rows & (changed["split"] == "val"), list(cells)] = list(cells.values())
    return changed


def only_reason(evidence: Evidence) -> pd.Series:
    """The one answer that misses its bar."""
    (row,) = (row for _, row in reasons(verdict_frame(evidence)).iterrows())
    assert row["advice"]
    assert row["asked"]
    return row


def test_a_sound_run_is_readable(sound, tmp_path):
    verdict = verdict_frame(sound)
    assert (level_of(verdict), is_readable(verdict), reasons(verdict).empty) == (READABLE, True, True)
    assert verdict_line(verdict) == f"Readable: {len(QUESTIONS)} of {len(QUESTIONS)} bars are met"
    assert verdict["question"].is_unique
    assert not verdict["advice"].any()
    write_table(VERDICT, verdict, tmp_path / "verdict.parquet")


def test_copies_of_one_network_are_found_by_digest_or_by_their_activations(sound):
    for twin in (manifest("b", 0.2, sha256="a"), manifest("b", 0.1)):
        row = only_reason(replace(sound, manifests={"a": sound.manifests["a"], "b": twin}))
        assert (row["question"], row["level"], row["value"]) == ("different networks", UNREADABLE, 1)
        assert row["reason"].startswith("`a` and `b` are copies")
        assert row["advice"] == "Leave `b` out of `models`"
    another = replace(manifest("b", 0.2, sha256="a"), layer=3)
    assert level_of(verdict_frame(replace(sound, manifests=sound.manifests | {"b": another}))) == READABLE


def test_one_checkpoint_under_two_paths_and_one_random_network_twice_are_copies(sound, tmp_path):
    entry = BackboneParams(timm="test_resnet", weights="random", kwargs={"num_classes": 0})
    files = [tmp_path / name for name in ("one.safetensors", "copy.safetensors")]
    save_model(trained(entry, seed=0), str(files[0]))
    shutil.copyfile(*files)
    entries = [entry, entry, *(entry.model_copy(update={"weights": str(file)}) for file in files)]
    identities = [obtain(each, tmp_path / str(number), seed=0) for number, each in enumerate(entries)]
    other_seed = obtain(entry, tmp_path / "other", seed=1)

    def question(one: Identity, other: Identity) -> str:
        manifests = {"a": manifest("a", 0.1, **asdict(one)), "b": manifest("b", 0.2, **asdict(other))}
        return str(verdict_frame(replace(sound, manifests=manifests)).set_index("question")["level"].iloc[0])

    for pair in combinations(identities, 2):
        assert question(*pair) == UNREADABLE
    assert question(identities[0], other_seed) == READABLE


def test_random_weights_say_nothing_of_what_is_learnt(sound):
    row = only_reason(replace(sound, manifests=sound.manifests | {"b": manifest("b", 0.2, weights="random")}))
    assert (row["question"], row["level"]) == ("trained networks", UNREADABLE)
    assert row["reason"].startswith("`b` has random weights")


def test_codes_below_the_mean_are_no_codes_and_no_negative_percentage(sound):
    verdict = verdict_frame(other(sound, reconstruction=with_r2("usae", "b", "b", r2_channel=-1.59)))
    row = reasons(verdict).iloc[0]
    assert (row["question"], row["level"], row["value"]) == ("own variance", UNREADABLE, -1.59)
    assert "`b` explain less than the mean does (R² \u22121.59) of its own held-out variance" in row["reason"]
    assert not verdict["reason"].str.contains(r"[-\u2212]\d+ %").any()
    assert r2_text(0.394) == "39 %"


def test_what_diverged_is_not_readable(sound):
    nothing = reconstruction().assign(r2_channel=np.nan)
    nan = with_cell(controls(), "usae", "r2_cross_mean", value=np.nan)
    verdict = verdict_frame(other(sound, reconstruction=nothing, controls=nan))
    assert reasons(verdict)["question"].tolist()[0] == "own variance"
    assert "linear maps" in reasons(verdict)["question"].tolist()


def test_half_of_what_an_own_sae_explains_is_asked(sound):
    row = only_reason(other(sound, reconstruction=with_r2("usae", "a", "a", r2_channel=0.44)))
    assert (row["question"], row["level"]) == ("own SAEs", CAUTION)
    assert row["value"] == pytest.approx(0.44 / 0.9)
    nothing = reconstruction()
    nothing.loc[nothing["sae"] == "independent", "r2_channel"] = -0.1
    assert only_reason(other(sound, reconstruction=nothing))["question"] == "own SAEs"


@pytest.mark.parametrize(
    ("value", "low"), [(0.36, np.nan), (0.35, np.nan), (0.34, -0.01)], ids=["more", "as much", "interval"]
)
def test_another_model_is_explained_better_than_by_re_paired_images(sound, value, low):
    changed = with_cell(controls(), "shuffled", "r2_cross_mean", value=value, run_less_low=low)
    row = only_reason(other(sound, controls=changed))
    assert (row["question"], row["level"]) == ("re-paired images", UNREADABLE)
    assert row["value"] == pytest.approx(0.35 - value)


def test_half_of_what_linear_maps_explain_is_asked(sound):
    tables = reconstruction()
    tables.loc[tables["source"] != tables["target"], "r2_ridge"] = 0.8
    row = only_reason(other(sound, reconstruction=tables))
    assert (row["question"], row["level"]) == ("linear maps", CAUTION)
    assert row["value"] == pytest.approx(0.35 / 0.8)
    tables.loc[tables["source"] != tables["target"], "r2_ridge"] = -0.8
    assert "maps explain less than the mean" in only_reason(other(sound, reconstruction=tables))["reason"]


def test_a_loss_that_still_falls_asks_for_more_steps(sound):
    row = only_reason(other(sound, training=training(late=0.3)))
    assert (row["question"], row["level"], row["advice"]) == ("loss", CAUTION, "Raise `train.epochs`")
    assert row["value"] == pytest.approx(0.3)
    even = pd.DataFrame({"step": range(100), "loss": np.linspace(2, 1, 100)})
    assert only_reason(other(sound, training=even))["value"] == pytest.approx(0.5, abs=0.1)
    two = pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.0]})
    assert only_reason(other(sound, training=two))["value"] == 1
    risen = only_reason(other(sound, training=pd.DataFrame({"loss": np.repeat([2.0, 4.0, 1.0], [20, 30, 50])})))
    assert risen["value"] == pytest.approx(3)
    assert risen["reason"].startswith("100 % of the fall")
    for loss in ([1.0, 2.0], [np.nan, np.nan], [1.0]):
        row = only_reason(other(sound, training=pd.DataFrame({"loss": loss})))
        assert (row["question"], row["level"]) == ("loss", UNREADABLE)


@pytest.mark.parametrize(("fires", "level"), [(bars.FEW_FIRES - 1, CAUTION), (bars.NO_FIRES - 1, UNREADABLE)])
def test_a_concept_needs_held_out_tokens(sound, fires, level):
    row = only_reason(other(sound, concepts=pd.DataFrame({"fires": [4 * fires, 0]})))
    assert (row["question"], row["level"], row["value"]) == ("held-out tokens", level, fires)


@pytest.mark.parametrize(("adds", "low"), [(16, -1), (16, 0), (0, np.nan), (-3, -5)])
def test_training_has_to_add_to_its_start(sound, adds, low):
    row = only_reason(other(sound, controls=with_cell(controls(), "usae", "shared", adds=adds, adds_low=low)))
    assert (row["question"], row["level"], row["value"]) == ("the start", CAUTION, adds)


@pytest.mark.parametrize(("most", "level"), [(9, CAUTION), (40, UNREADABLE), (41, UNREADABLE)])
def test_controls_with_nothing_to_share_share_less(sound, most, level):
    row = only_reason(other(sound, controls=with_cell(controls(), "shuffled", "shared", value=most)))
    assert (row["question"], row["level"], row["value"]) == ("controls", level, most / 40)
    assert f"up to {most} concepts pass for shared (`shuffled`)" in row["reason"]


def test_no_shared_concept_is_a_result_unless_controls_have_one(sound):
    none = with_cell(with_cell(controls(), "usae", "shared", value=0), "usae", "universal", value=0)
    assert only_reason(other(sound, controls=none))["question"] == "controls"
    assert (
        level_of(verdict_frame(other(sound, controls=with_cell(none, "shuffled", "shared", value=0)))) == READABLE
    )


def test_shared_concepts_come_back_more_often_than_not(sound):
    row = only_reason(other(sound, controls=with_cell(controls(), "usae", "universal", value=19)))
    assert (row["question"], row["level"], row["value"]) == ("other images", CAUTION, 19 / 40)


@pytest.mark.parametrize(("others", "shared"), [(0.2, 1.0), (0.0, 0.0), (0.0, np.nan), (np.nan, 1.0)])
def test_the_recipe_is_tried_on_planted_concepts(sound, others, shared):
    row = only_reason(other(sound, planted=planted(others, shared)))
    assert (row["question"], row["level"]) == ("planted concepts", CAUTION)
    assert "nan" not in row["reason"]


def test_what_was_not_asked_is_named_and_leads_to_caution(sound):
    rows = reconstruction()
    without = {"reconstruction": rows[rows["sae"] == "usae"].drop(columns="r2_ridge")}
    verdict = verdict_frame(replace(sound, tables={**without, "concepts": sound["concepts"]}))
    assert (level_of(verdict), is_readable(verdict)) == (CAUTION, True)
    missed = verdict[~verdict["asked"]]
    assert missed["reason"].str.startswith("Not asked: ").all()
    assert missed["advice"].str.len().min() > 0
    assert verdict_line(verdict) == (
        "Readable with caution: not asked: own SAEs, re-paired images, linear maps, loss, the start, controls, "
        "other images, planted concepts"
    )
    alone = controls()[controls()["run"] == "usae"].query("measure != 'universal'")
    verdict = verdict_frame(other(sound, controls=alone))
    assert reasons(verdict)["question"].tolist() == ["re-paired images", "controls", "other images"]
    assert is_readable(pd.DataFrame())
    assert verdict_line(pd.DataFrame()).startswith("No verdict")


def test_the_worst_answer_comes_first_and_what_nobody_asked_last(sound):
    tables = {**sound.tables, "planted": pd.DataFrame(), "training": training(0.4)}
    random = sound.manifests | {"b": manifest("b", 0.2, weights="random")}
    verdict = verdict_frame(Evidence(random, tables))
    assert reasons(verdict)["question"].tolist() == ["trained networks", "loss", "planted concepts"]
    assert verdict_line(verdict).startswith("Not readable: `b` has random weights")
    assert "planted" not in verdict_line(verdict)
