"""Figures: the claims equal the tables, the bytes repeat, missing data becomes a sentence."""

import re
from dataclasses import replace
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from tests.support import contrasted
from tests.support.contrasted import COUNTS, STEPS
from tests.support.synthetic_run import CONCEPTS, MODELS, make_run
from usae.common.errors import UserError
from usae.images.sources.shapes.scenes import ATTRIBUTES
from usae.showing.figures import pictures
from usae.showing.figures.agreement import agreement_picture, sensitivity_picture
from usae.showing.figures.concept_grid import grid_picture, mosaic, overlap_claim
from usae.showing.figures.controls import controls_picture
from usae.showing.figures.curves import loss_picture, probe_picture
from usae.showing.figures.evidence import consistency_picture, null_picture
from usae.showing.figures.firing import energy_picture, entropy_picture, rank_picture
from usae.showing.figures.funnel import funnel_picture
from usae.showing.figures.heat import heat_rgba, overlay
from usae.showing.figures.interventions import onboarding_picture, stitching_picture
from usae.showing.figures.likeness import alignment_picture, null_kinds_picture
from usae.showing.figures.matrix import r2_matrix, r2_picture
from usae.showing.figures.ood import ood_picture
from usae.showing.figures.planted import planted_picture
from usae.showing.figures.stability import stability_picture
from usae.showing.figures.theme import OKABE_ITO, PAPER, model_colours, percent
from usae.showing.names import in_reading_order, measure_name, run_name
from usae.showing.results.choice import (
    Choice,
    chosen_concepts,
    of_different_kinds,
    shared_concepts,
    specific_concepts,
    support,
)
from usae.showing.results.examples import ConceptExample, concept_examples, different, sketch_of, thumbnails
from usae.showing.results.reports import REQUIRED, Reports

NAMES = [
    "funnel",
    "agreement",
    "sensitivity",
    "stability",
    "controls",
    "r2_matrix",
    "firing_entropy",
    "cofire_by_rank",
    "cofires_energy",
    "nulls",
    "null_kinds",
    "alignment",
    "consistency",
    "stitching",
    "onboarding",
    "ood",
    "loss",
    "probes",
    "planted",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def reports(run):
    return Reports.load(run.reports)


def test_every_figure_is_written_twice_alike(reports, tmp_path):
    drawn = pictures(reports, MODELS, 0.1)
    assert [picture.name for picture in drawn] == NAMES
    for first, again in zip(drawn, pictures(reports, MODELS, 0.1), strict=True):
        for one, two in zip(first.save(tmp_path / "a"), again.save(tmp_path / "b"), strict=True):
            assert one.read_bytes() == two.read_bytes()
    svg = (tmp_path / "a/loss.svg").read_text()
    assert "<svg" in svg
    assert "<dc:date>" not in svg


def lines_of(axes, style):
    return [line for line in axes.get_lines() if line.get_linestyle() == style]


def test_the_funnel_compares_the_last_step_that_run_start_and_controls_were_asked():
    table = contrasted.funnel()
    picture = funnel_picture(table)
    assert picture.claim == (
        "All models share 28 of 512 alive concepts; before the first step 25; where there is nothing to share at "
        "most 0"
    )
    assert "Stable: comes back in both SAEs" in picture.note
    runs = [
        ("usae", False),
        ("usae", True),
        *((run, False) for run in ("seed-1", "untrained-language", "shuffled")),
    ]
    for step, axes in enumerate(picture.figure.axes):  # beside every bar its count, in the row of its SAE
        bars = {round(bar.get_y() + bar.get_height() / 2): bar for bar in axes.patches}
        left = {row: COUNTS[run][step] for row, run in enumerate(runs) if step < len(COUNTS[run])}
        assert {row: bar.get_width() for row, bar in bars.items()} == left
        beside = {text.xy: text.get_text() for text in axes.texts}
        assert beside == {(left.get(row, 0), row): str(left.get(row, "\u2013")) for row in range(len(runs))}
        hollow = {to_hex(bar.get_facecolor()) == PAPER for bar in bars.values()}
        assert hollow == {STEPS[step] == "stable"}  # the only step that was asked of no control
    rows = [label.get_text() for label in picture.figure.axes[0].get_yticklabels()]
    assert rows[:3] == ["the run", "the run, before the first step", "another seed, 1"]
    alone = table[(table["run"] == "usae") & ~table["start"]]
    assert funnel_picture(alone).claim == "All models share 28 of 512 alive concepts"
    assert not funnel_picture(table.head(0)).drawn
    assert "dvc repro measure" in funnel_picture(table.head(0)).note


def test_agreement_is_of_the_runs_significant_concepts():
    table = contrasted.control_concepts()
    picture = agreement_picture(table, 0.1)
    assert picture.claim == (
        "2 of 3 concepts that pass step significant agree on 10 % of their fires, the median one on 10 %; before "
        "the first step 0 of 1"
    )
    (axes,) = picture.figure.axes
    assert lines_of(axes, "--")[0].get_xdata()[0] == 0.1
    assert sum(bar.get_height() for bar in axes.containers[0]) == 3
    assert agreement_picture(table[~table["start"]], 0.1).claim.endswith("the median one on 10 %")
    assert "dvc repro contrast" in agreement_picture(table.head(0), 0.1).note
    assert agreement_picture(table.assign(q=1.0), 0.1).claim.startswith("No concept co-fires significantly")


def test_the_counts_at_other_thresholds_stand_beside_those_of_the_start():
    table = contrasted.sensitivity()
    picture = sensitivity_picture(table)
    assert picture.claim == (
        "Asked to agree on 2.0 % of their fires, 57 concepts are shared by all models, on 30 % 0; before the "
        "first step 45 and 2"
    )
    agreement, matched = picture.figure.axes
    assert [line.get_ydata().tolist() for line in lines_of(agreement, "-")] == [[57, 0], [6, 0]]
    assert [line.get_ydata().tolist() for line in lines_of(agreement, "--")] == [[45, 2], [1, 0]]
    assert [label.get_text() for label in agreement.get_xticklabels()] == ["0.02", "0.3"]
    assert len(matched.get_lines()) == 4
    higher = table.assign(shared=table["shared"] * np.where(table["threshold"] == "matched", 3, 1))
    for axes in sensitivity_picture(higher).figure.axes:
        assert axes.get_ylim()[1] > 84  # no panel cuts off another's points
    assert sensitivity_picture(table[~table["start"]]).claim.endswith("on 30 % 0")
    assert "dvc repro contrast" in sensitivity_picture(table.head(0)).note


def test_what_comes_back_stands_beside_the_start_and_another_concepts_partner():
    table = contrasted.stability()
    picture = stability_picture(table)
    assert picture.claim == (
        "Of the run's concepts 50 % come back in an SAE of one half of the images; before the first step 0 % do"
    )
    (axes,) = picture.figure.axes
    other, *trained = lines_of(axes, "-")
    assert other.get_ydata()[[0, 10]].tolist() == pytest.approx([1 / 3, 0])
    assert len(trained) == 4
    first_half = next(line for line in trained if line.get_color() == OKABE_ITO[0])
    assert first_half.get_ydata()[[70, 78, 85, 90]].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert len([line for line in lines_of(axes, "--") if len(line.get_xdata())]) == 2
    seeds = table[table["against"].eq("seed-1")]
    assert stability_picture(seeds).claim == "Of the run's concepts 67 % come back in an SAE of another seed"
    assert "No other SAE" in stability_picture(table.head(0)).claim


def test_controls_are_set_against_the_run():
    table = contrasted.controls()
    picture = controls_picture(table)
    assert picture.claim == (
        "Trained on re-paired images in place of matching ones: shared concepts from 28 to 0, cross R² from 0.29 "
        "to 0.01, firing entropy from 0.88 to 0.83"
    )
    shared, lift = picture.figure.axes[0], picture.figure.axes[3]
    assert [label.get_text() for label in shared.get_yticklabels()] == ["the run", "re-paired images: all models"]
    value, start, null = ([x for x, _ in points.get_offsets().data] for points in shared.collections)
    assert (value, start) == ([28, 0], [25, 0])
    assert np.isnan(null).all()
    assert [points.get_offsets().data[0, 0] for points in lift.collections] == [36.7, 24.6, 15.4]
    assert controls_picture(table[table["run"] == "usae"]).claim == "The run beside its controls"
    assert "dvc repro contrast" in controls_picture(table.head(0)).note


def test_where_the_controls_were_trained_less_the_runs_twin_is_set_beside_them():
    controls, stability = contrasted.controls(), contrasted.stability()
    twin = controls[controls["run"] == "usae"].assign(value=7.0, run="twin")
    picture = controls_picture(pd.concat([controls, twin]))
    assert "shared concepts from 7 to 0" in picture.claim
    assert "The twin is the run's recipe" in picture.note
    first = stability[stability["against"] == "half-1"]
    better = first[first["run"] == "usae"].assign(run="twin", correlation=0.99, correlation_least=0.9)
    picture = stability_picture(pd.concat([first, better]))
    assert picture.claim.startswith("Of the run's concepts 100 % come back")
    assert picture.note.endswith("stands its twin, which was trained as little as the others.")


def test_stitching_claim_is_the_mean_over_other_models():
    rows = [("usae", "a", "b", 0.5), ("usae", "b", "a", 0.7), ("usae", "a", "a", 0.99), ("clean", "a", "a", 1.0),
            ("ridge", "a", "b", 0.8), ("independent", "a", "b", 0.25), ("start", "a", "b", 0.4)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "source", "target", "recovered"])
    table = table.assign(score="auc", labels=5, images=40)
    picture = stitching_picture(table)
    assert picture.claim == (
        "Through another model's universal codes a label readout keeps 60 % of its skill; before the first step "
        "40 %; through matched codes of independent SAEs 25 %"
    )
    legend = [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()]
    assert legend == ["universal codes", "before the first step", "best linear map", "matched own codes"]
    without = stitching_picture(table[table["method"] != "start"])
    assert len(without.figure.axes[0].patches) == 6
    assert "auc over 5 labels, 40 held-out images" in picture.note
    assert "No readout" in stitching_picture(table[table["source"] == table["target"]]).claim


def test_onboarding_claim_compares_few_and_many_images():
    gains = {"matched": 0.1, "shuffled": 0.0, "untrained": 0.04}
    rows = [(setting, images, *pair, r2) for setting, gain in gains.items()
            for images in (30, 1000) for pair, r2 in ((("new", "old"), gain * np.log10(images)),
                                                      (("old", "new"), 0.2), (("new", "new"), 0.9))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["setting", "images", "source", "target", "r2"])
    table = table.assign(r2_ridge=0.5, dictionary="trained")
    joint = pd.DataFrame([("usae", "val", "old", "new", 0.4), ("usae", "val", "new", "old", 0.3)],
                         columns=["sae", "split", "source", "target", "r2_channel"])  # fmt: skip
    picture = onboarding_picture(table, joint, ("old", "new"))
    assert picture.claim == (
        "new joins a finished SAE: mean R² with the others 0.17 after 30 images, 0.25 after 1000"
    )
    lines = picture.figure.axes[0].get_lines()
    assert [len(line.get_xdata()) for line in lines] == [2, 2, 2, 2, 1]
    assert lines[-1].get_ydata()[0] == 0.3
    assert picture.figure.axes[1].get_lines()[-1].get_ydata()[0] == 0.4
    others = [table[table["setting"] == "matched"].assign(dictionary=name, r2=r2)
              for name, r2 in (("start", 0.1), ("shuffled", 0.05))]  # fmt: skip
    beside = onboarding_picture(pd.concat([table, *others]), joint, ("old", "new"))
    assert beside.claim == (
        f"{picture.claim}; 0.10 onto a dictionary before its first step, 0.05 onto one of re-paired images"
    )
    crosses = beside.figure.axes[0].get_lines()[5:]
    assert [(line.get_marker(), line.get_ydata()[0]) for line in crosses] == [("x", 0.1), ("+", 0.05)]
    explained = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert len(explained) == 1 + 4 + 3
    assert "its codes, with random weights" in explained
    assert onboarding_picture(table.iloc[:0], joint, ("old",)).claim == "No model has joined late"


def test_every_null_and_group_has_its_bar():
    groups, shares = ("a+b", "a+b+c"), {"images": (0.5, 0.25), "tokens": (1.0, 0.75)}
    rows = [(null, group, n < 4 * share) for null, values in shares.items()
            for group, share in zip(groups, values, strict=True) for n in range(4)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["null", "models", "significant"])
    picture = null_kinds_picture(table, ("a", "b", "c"))
    assert picture.claim == (
        "Of the concepts that fire in all models 25 % co-fire beyond the hardest null, one model re-paired; 75 % "
        "beyond the easiest, tokens shuffled too"
    )
    joint = null_kinds_picture(table.replace("tokens", "joint"), ("a", "b", "c"))
    assert joint.claim.endswith("75 % beyond the easiest, all re-paired at once")
    assert [bar.get_width() for bar in picture.figure.axes[0].patches] == [0.25, 0.5, 0.75, 1.0]
    assert null_kinds_picture(table.iloc[:0], ("a",)).claim == "No concept fires in two models"
    assert null_kinds_picture(table, ("a", "b", "c", "d")).claim.startswith("No concept fires in all models")


def test_of_many_groups_those_with_the_least_and_the_most_have_bars():
    models = [f"m{number}" for number in range(16)]
    groups = ["+".join(pair) for pair in combinations(models, 2)] + ["+".join(models)]
    rows = [(group, "images", row < place) for place, group in enumerate(groups) for row in range(121)]
    picture = null_kinds_picture(pd.DataFrame(rows, columns=["models", "null", "significant"]), models)
    labels = [tick.get_text() for tick in picture.figure.axes[0].get_yticklabels()]
    assert len(labels) == 17
    assert labels[:2] == ["all models", "m0 + m1"]
    assert "Of 121 groups" in picture.note


def test_many_models_have_upright_names_under_a_matrix():
    models = [f"stream-of-a-long-name-{number}" for number in range(16)]
    pairs = [("usae", "val", one, two, 0.5) for one in models for two in models]
    table = pd.DataFrame(pairs, columns=["sae", "split", "source", "target", "r2_channel"])
    axes = r2_picture(table, models).figure.axes[0]
    assert {tick.get_rotation() for tick in axes.get_xticklabels()} == {90}


def test_likeness_stands_beside_that_of_re_paired_images():
    codes = (("mutual_knn", 0.2, 0.05), ("cka_unbiased", 0.3, 0.0), ("cka", 9, 9))
    activations = (("mutual_knn", 0.3, 0.1), ("cka_unbiased", 0.35, 0.1), ("cka", 9, 9))
    rows = [
        (measure, space, value + k, null)
        for space, means in (("codes, image means", codes), ("activations, image means", activations))
        for k in (0.0, 0.2)
        for measure, value, null in means
    ]
    of_tokens = [(measure, "codes, tokens", 9, 9) for measure, *_ in codes]
    picture = alignment_picture(pd.DataFrame(rows + of_tokens, columns=["measure", "space", "value", "null_mean"]))
    assert picture.claim == (
        "Beyond re-paired images, models are more alike in their codes than in their activations "
        "by 1 of 2 measures"
    )
    (axes,) = picture.figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["neighbours in common", "CKA, unbiased"]
    spans = sorted((line.get_ydata()[0], *line.get_xdata()) for line in lines_of(axes, "-"))
    np.testing.assert_allclose([span[1:] for span in spans], [(0.05, 0.3), (0.1, 0.4), (0, 0.4), (0.1, 0.45)])


def test_ood_claim_is_the_means_of_own_and_other_codes():
    rows = [(images, s, t, r2 + (s == t) / 2) for images, r2 in (("held-out", 0.3), ("other", -0.1))
            for s in "ab" for t in "ab"]  # fmt: skip
    table = pd.DataFrame(rows, columns=["images", "source", "target", "r2_channel"]).assign(count=40)
    picture = ood_picture(table, ("a", "b"), "negatives")
    assert picture.claim == (
        "On negatives of the held-out images R² is 0.40 from the model's own codes (0.80 held out), -0.10 from "
        "another model's (0.30 held out)"
    )
    assert ood_picture(table, ("a", "b"), "there/sketches").claim.startswith(
        "On the images of sketches R² is 0.40"
    )
    held_out, other = picture.figure.axes[0].get_lines()[:2]
    assert held_out.get_xdata().tolist() == [0.8, 0.8, 0.3, 0.3]
    np.testing.assert_allclose(other.get_xdata(), [0.4, 0.4, -0.1, -0.1])
    assert ood_picture(table.iloc[:0], ("a",), None).claim == "No images of another kind were tried"


def test_planted_claim_is_of_the_concepts_that_are_not_shared():
    rows = [("ideal", "entropy", "others", 0.9), ("ideal", "funnel", "others", 0.02),
            ("ideal", "entropy", "shared", 1.0), ("ideal", "funnel", "shared", 0.95),
            ("matched", "entropy", "others", 0.25), ("matched", "funnel", "others", 0.0),
            ("matched", "entropy", "twin", 0.5), ("matched", "funnel", "twin", 0.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["setting", "by", "kind", "value"])
    table = table.assign(
        quantity="called universal", low=table["value"] - 0.1, high=table["value"] + 0.1, planted=9
    )
    picture = planted_picture(pd.concat([table, table.assign(quantity="precision", value=0.1)]))
    assert picture.claim == (
        "Planted concepts that are not shared, called universal: of perfect codes 90 % by firing entropy, 2.0 % "
        "by the funnel; of trained ones 25 % by firing entropy, 0 % by the funnel"
    )
    perfect, trained = picture.figure.axes
    assert [label.get_text() for label in perfect.get_yticklabels()] == [
        "planted in all models",
        "planted in one model, hard",
    ]
    assert [bar.get_width() for bar in perfect.patches[::2]] == [1.0, 0.95]
    assert [bar.get_width() for bar in trained.patches[1::2]] == [0.5, 0.0]


def test_runs_have_a_name_that_people_read_and_an_order():
    runs = ["usae", "shuffled", "shuffled-vit", "half-2", "untrained", "seed-1", "k-8", "untrained-vit", "else"]
    assert in_reading_order(runs) == [
        "usae", "seed-1", "half-2", "k-8", "untrained-vit", "untrained", "shuffled-vit", "shuffled", "else"
    ]  # fmt: skip
    names = [run_name(run) for run in ("usae", "half-2", "shuffled", "untrained-vit", "else")]
    assert names == [
        "the run", "half of the images, 2", "re-paired images: all models", "untrained networks: vit", "else"
    ]  # fmt: skip


def test_r2_claim_and_matrix_come_from_the_held_out_rows(reports):
    train = reports["reconstruction"].assign(split="train", r2_channel=-9.0)
    both = pd.concat([reports["reconstruction"], train])
    matrix = r2_matrix(both, MODELS, "usae")
    assert matrix[0, 1] == 0.36
    claim = "Codes explain 66 % of their own model's variance and 33 % of another's"
    assert r2_picture(both, MODELS).claim == claim
    start, brief = (
        reports["reconstruction"].query("sae == @sae").assign(sae=name, r2_channel=r2)
        for sae, name, r2 in (("usae", "start", 0.2), ("independent", "brief", 0.7))
    )
    more = r2_picture(pd.concat([both, start, brief]), MODELS)
    assert more.claim == f"{claim}; before the first step 20 % and 20 %"
    assert [label.get_text() for label in more.figure.axes[1].get_xticklabels()] == ["own SAE", "brief"]


def test_a_negative_r2_is_no_percentage(reports):
    below = reports["reconstruction"].assign(r2_channel=-90.35)
    assert r2_picture(below, MODELS).claim.startswith("Codes explain less than the mean does (R² \u221290.35) of")


def test_cells_of_the_r2_matrix_have_their_ceiling_and_negative_ones_a_colour(reports):
    ceiling = reports["reconstruction"].assign(r2_ridge=0.44)
    texts = [text.get_text() for text in r2_picture(ceiling, MODELS).figure.axes[0].texts]
    assert texts.count("ridge 0.44") == len(MODELS) * (len(MODELS) - 1)
    cross = ceiling["source"] != ceiling["target"]
    below = r2_picture(ceiling.assign(r2_channel=np.where(cross, -0.2, 0.5)), MODELS).figure.axes[0]
    image = below.images[0]
    colours = image.cmap(image.norm(image.get_array()))
    red = mpl.colors.to_rgba(OKABE_ITO[1])
    assert [tuple(colours[0, 1]) == red, tuple(colours[0, 0]) == red] == [True, False]
    assert "\u22120.20" in [text.get_text() for text in below.texts]
    assert not any(
        "ridge" in text.get_text()
        for text in r2_picture(ceiling.drop(columns="r2_ridge"), MODELS).figure.axes[0].texts
    )


def test_r2_of_one_model_has_no_others(reports):
    claim = r2_picture(reports["reconstruction"], MODELS[:1]).claim
    assert claim == "Codes explain 61 % of their own model's variance"


def test_entropy_claim_counts_alive_concepts_only():
    concepts = pd.DataFrame({"firing_entropy": [1.0, 0.96, 0.2, 0.95, np.nan]})
    nothing = pd.DataFrame({"run": [], "start": [], "firing_entropy": []})
    assert entropy_picture(concepts, nothing, MODELS).claim == (
        "2 of 4 alive concepts (50 %) fire about equally often in all 3 models"
    )
    beside = entropy_picture(concepts, contrasted.control_concepts(), MODELS).claim
    assert re.search(r"; trained on re-paired images 0 of \d+ do$", beside)


def test_rank_claim_averages_the_top_sixth():
    rows = [(c, m, 10, 0.8 if c < 2 else 0.1, 12.0 - c) for c in range(12) for m in MODELS]
    table = pd.DataFrame(rows, columns=["concept_id", "model", "fires", "cofire_proportion", "energy"])
    beside = pd.DataFrame({"run": "usae", "start": False, "concept_id": range(12), "null_mean": 2.0})
    picture = rank_picture(table, beside, MODELS)
    assert "80 % of the time (20 % with one model re-paired); for the others 10 % (20 %)" in picture.claim
    assert "80 % of the time; for the others 10 %" in rank_picture(table, beside[:0], MODELS).claim
    nulls = lines_of(picture.figure.axes[0], "--")
    assert [len(nulls), *set(nulls[0].get_ydata())] == [3, 0.2]


def test_energy_claim_is_the_log_log_fit():
    cofires = np.array([1, 10, 100, 1000, 0])
    concepts = pd.DataFrame({"cofires": cofires, "energy": cofires**0.25, "firing_entropy": 1.0})
    controls = pd.DataFrame({"run": ["usae", "shuffled"], "measure": "importance_r", "value": [1.0, 0.5]})
    picture = energy_picture(concepts, controls)
    assert picture.claim.endswith("r = 1.00, slope 0.25 (log-log); trained on re-paired images r = 0.50")
    assert energy_picture(concepts, controls[:0]).claim.endswith("slope 0.25 (log-log)")


def test_null_claim_counts_the_significant_concepts_of_all_models():
    rows = [(c, "+".join(MODELS), null, 10 * c, 1.0, c > 2) for null in ("images", "tokens") for c in range(8)]
    rows += [(c, "supervised+distilled", "images", 5, 1.0, True) for c in range(8)]
    table = pd.DataFrame(rows, columns=["concept_id", "models", "null", "cofires", "null_mean", "significant"])
    assert null_picture(table, MODELS).claim == (
        "5 of 8 concepts (62 %) pass step significant: they co-fire in all models more often than with any one "
        "model re-paired"
    )
    assert null_picture(table.iloc[:0], MODELS).claim == "No concept fires in all models"


def test_consistency_claim_is_the_mean_over_models_beside_the_baseline():
    rows = [(m, against, c) for m in MODELS[:2] for against, c in (("independent", 0.8), ("gaussian", 0.2))]
    rows += [("supervised", "independent", 0.4), ("distilled", "independent", -0.4)]
    table = pd.DataFrame(rows, columns=["model", "against", "cosine"])
    table = table.assign(sae="usae", concept_id=3, partner=2)
    claim = "Matched with an independent SAE's, the concepts have a mean cosine of 0.50; random dictionaries 0.20"
    assert consistency_picture(table, MODELS).claim == claim
    start = table[table["against"] == "independent"].assign(sae="start", cosine=0.3, partner=3)
    both = consistency_picture(pd.concat([table, start]), MODELS)
    assert both.claim == claim.replace("; random", "; before the first step 0.30, random")
    assert len(lines_of(both.figure.axes[0], "--")) == 2
    caution = ". Not evidence: 100 % keep their number, both SAEs started alike"
    assert consistency_picture(table.assign(partner=3), MODELS).claim == claim + caution
    assert consistency_picture(table.iloc[:0], MODELS).claim == "There is no independent SAE to compare with"


def test_loss_and_probe_claims():
    training = pd.DataFrame({"step": range(100), "source": "supervised", "loss": np.linspace(2, 1, 100)})
    assert loss_picture(training, MODELS).claim == "The loss fell by 47 %, from 1.95 to 1.05"
    for sources in (["supervised"], ["all"], list(MODELS)):
        (axes,) = loss_picture(training.assign(source=np.resize(sources, 100)), MODELS).figure.axes
        assert [line.get_label() for line in axes.get_lines()] == sources
        assert sum(len(line.get_xdata()) for line in axes.get_lines()) == 100
    probes = pd.DataFrame({"model": "language", "auc_trained": [0.9, 0.6], "auc_untrained": [0.5, 0.7]})
    probed = probe_picture(probes.assign(attribute=["colour: red", "shape: ring"]), MODELS)
    assert "read 1 of 2 attributes better" in probed.claim
    assert "median AUC 0.75 against 0.60" in probed.claim
    assert [tick.get_text() for tick in probed.figure.axes[0].get_yticklabels()] == ["colour: red", "shape: ring"]


def test_a_run_of_few_steps_has_its_points():
    for steps, marker in ((12, "o"), (100, "")):
        training = pd.DataFrame({"step": range(steps), "source": "all", "loss": np.linspace(2, 1, steps)})
        (line,) = loss_picture(training, MODELS).figure.axes[0].get_lines()
        assert line.get_marker() == marker


def test_missing_data_is_a_sentence(reports, tmp_path):
    nothing = {
        "No reconstruction was measured": r2_picture(reports["reconstruction"].iloc[:0], MODELS),
        "No concept fires": entropy_picture(reports["concepts"].iloc[:0], reports["control_concepts"], MODELS),
        "The models do not co-fire": energy_picture(reports["concepts"].assign(cofires=0), reports["controls"]),
        "No training was logged": loss_picture(reports["training"].iloc[:0], MODELS),
        "No concepts were planted": planted_picture(reports["planted"]),
        "No attribute could be probed": probe_picture(reports["probes"].iloc[:0], MODELS),
        "There is no shared concept to show": grid_picture([], [], []),
    }
    for claim, picture in nothing.items():
        assert picture.claim == claim
        assert picture.note.endswith(".")
        assert all(path.stat().st_size > 0 for path in picture.save(tmp_path))
    silent = reports["concept_models"].assign(fires=0)
    assert rank_picture(silent, reports["control_concepts"], MODELS).claim == "No concept fires"


def test_a_run_with_the_required_tables_alone_has_every_figure(reports):
    few = replace(reports, frames={name: reports[name] for name in REQUIRED})
    for picture in pictures(few, MODELS, 0.1):
        assert picture.claim
        assert picture.note


def test_missing_tables_are_all_named(run, tmp_path):
    with pytest.raises(UserError, match=r"run `dvc repro` to write them") as caught:
        Reports.load(tmp_path)
    assert str(caught.value).count("  - ") == 5
    (run.reports / "probes.parquet").rename(run.reports / "kept")
    without = Reports.load(run.reports)
    assert "probes" not in without
    assert without["probes"].empty
    (run.reports / "kept").rename(run.reports / "probes.parquet")


def test_concepts_are_chosen_by_agreement_then_by_ownership(reports):
    shared = shared_concepts(reports["concepts"], 5)
    values = reports["concepts"].set_index("concept_id")["cofire_proportion_min"]
    chosen = [values[choice.concept] for choice in shared]
    assert chosen == sorted(chosen, reverse=True)
    assert all(choice.concept < len(ATTRIBUTES) and choice.ranking == "mean" for choice in shared)
    own = specific_concepts(reports["concepts"], reports["concept_models"], MODELS, 2)
    assert [choice.owner for choice in own] == [model for model in MODELS for _ in range(2)]
    assert all((choice.concept - len(ATTRIBUTES)) // 3 == MODELS.index(choice.owner) for choice in own)
    assert own[0].ranking == "supervised"


def test_rare_concepts_are_not_shown():
    concepts = pd.DataFrame(
        {
            "concept_id": [0, 1, 2],
            "cofires": [99, 100, 500],
            "cofire_proportion_min": [1.0, 0.5, np.nan],
            "tokens": 60_000,
        }
    )
    assert shared_concepts(concepts, 3) == [Choice(1)]


@pytest.mark.parametrize(("tokens", "least"), [(0, 10), (4900, 12), (38_400, 96), (9_800_000, 100)])
def test_support_grows_with_the_tokens(tokens, least):
    assert support(pd.DataFrame({"tokens": [tokens]})) == least


def test_concepts_that_pass_the_funnel_come_first():
    concepts = pd.DataFrame(
        {
            "concept_id": [0, 1, 2, 3, 4],
            "cofires": [500, 500, 500, 20, 20],
            "cofire_proportion_min": [0.9, 0.5, 0.6, 0.8, 0.9],
            "tokens": 9000,
            "stops_at": ["stable", "universal", "universal", "universal", "stable"],
        }
    )
    assert [choice.concept for choice in shared_concepts(concepts, 5)] == [2, 1, 3, 0]  # the rare one last of them


def test_rules_choose_what_is_maximised(reports, params):
    def choose(**settings):
        chosen = params.maximise.model_copy(update={"concepts": 3, **settings})
        return chosen_concepts(reports["concepts"], reports["concept_models"], chosen, MODELS)

    strongest = reports["concepts"].sort_values("energy", ascending=False)["concept_id"].head(3).tolist()
    assert choose(rule="energy") == strongest
    assert choose(rule="funnel") == [choice.concept for choice in shared_concepts(reports["concepts"], 3)]
    assert [(concept - len(ATTRIBUTES)) // 3 for concept in choose(rule="entropy")] == [0, 1, 2]
    assert choose(rule="ids", ids=(7, 2, 7)) == [7, 2]
    with pytest.raises(
        UserError, match=r"`maximise.ids` in params.yaml should name concepts from 0 to \d+, found 999, 998"
    ):
        choose(rule="ids", ids=(2, 999, 998))


def test_near_duplicates_are_left_out():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    pictures[2] = np.clip(pictures[0] + rng.normal(0, 4, pictures[0].shape), 0, 255)
    shift = [np.zeros((32, 32, 3), np.uint8), *pictures]
    assert different([1, 3, 2, 0], 4, lambda image: sketch_of(shift[image])) == [1, 2, 0]
    assert different([1, 2, 0], 2, lambda image: sketch_of(shift[image])) == [1, 2]


def test_sketches_are_means_of_blocks():
    picture = np.arange(16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    wanted = picture.reshape(8, 2, 8, 2, 3).astype(float).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(sketch_of(picture), wanted)


def test_concepts_of_different_kinds_come_first():
    labels = ["shape: star", "shape: ring", "colour: red", None]
    concepts = pd.DataFrame({"concept_id": range(4), "top_label": labels})
    choices = [Choice(concept) for concept in range(4)]
    assert [choice.concept for choice in of_different_kinds(choices, concepts, 3)] == [0, 2, 3]
    assert [choice.concept for choice in of_different_kinds(choices, concepts, 4)] == [0, 2, 3, 1]


def test_heatmaps_are_the_codes(run, reports):
    (example,) = concept_examples([Choice(2)], reports["exemplars"], run.codes, 5)
    ranked = reports["exemplars"].query("concept_id == 2 and ranking == 'mean'").sort_values("rank")
    assert example.images == tuple(ranked["image"].head(5))
    peaks = example.codes.max(axis=(2, 3)).mean(axis=0)
    np.testing.assert_allclose(peaks, ranked["code"].head(5), rtol=1e-6)
    chunk = run.codes["distilled"].read([example.images[0]])
    dense = np.zeros(CONCEPTS)
    dense[chunk.indices[0, 13]] = chunk.values[0, 13]
    assert example.codes[1, 0, 1, 5] == dense[2]


def test_heat_colours():
    heat = heat_rgba(np.array([[0.0, 1.0, 2.0]]), top=2.0)
    assert heat[0, 0, 3] == 0
    assert 0 < heat[0, 1, 3] < heat[0, 2, 3] == 255
    assert heat_rgba(np.zeros((2, 2)), top=0.0)[..., 3].max() == 0
    image = np.full((4, 4, 3), 200, np.uint8)
    assert overlay(image, np.zeros((2, 2, 4), np.uint8)).max() == 110


def test_grid_shows_every_model_on_every_image(run, reports, tmp_path):
    examples = concept_examples(shared_concepts(reports["concepts"], 3), reports["exemplars"], run.codes, 4)
    photos = [thumbnails(run.index, example.images, 32, "squash") for example in examples]
    block = mosaic(examples[0], photos[0])
    assert block.shape == (4 * 36 - 4, 4 * 36 - 4, 3)
    assert np.array_equal(block[:32, :32], photos[0][0])
    svg, png = grid_picture(examples, photos, ["one", "two", "three"]).save(tmp_path)
    assert svg.stat().st_size > 1000
    assert Image.open(png).width > 600


def test_overlap_claim_counts_cells():
    codes = np.zeros((2, 1, 2, 2), np.float32)
    codes[0, 0] = [[1, 1], [0, 0]]
    codes[1, 0] = [[1, 0], [1, 0]]
    claim = overlap_claim([ConceptExample(Choice(0), ("a", "b"), (0,), codes)])
    assert claim == "All 2 models see these concepts in 33 % of the 3 cells where any of them does"


def test_colours_and_numbers():
    assert list(model_colours(MODELS).values()) == list(OKABE_ITO[:3])
    assert len(set(model_colours([f"m{number}" for number in range(31)]).values())) == 31
    assert [percent(value) for value in (0.314, 0.0123, 0.0, 0.998, 1.0)] == [
        "31 %",
        "1.2 %",
        "0 %",
        "99.8 %",
        "100 %",
    ]


def test_measures_have_one_name_each():
    named = {
        "alive_in_all_models": "alive in all models",
        "cosine_mean_in_half-2": "decoder cosine, mean, in half of the images, 2",
        "else": "else",
    }
    assert {measure: measure_name(measure) for measure in named} == named
