"""What is counted, exactly: images, steps, SAEs and bytes, from small runs whose costs are round numbers."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from usae.common.params import load_params, parse_params
from usae.showing.estimate.clocks import Cost
from usae.showing.estimate.fits import Machine, resident, training_bytes, verdicts
from usae.showing.estimate.rehearsal import STAGES, all_stages
from usae.showing.estimate.small import MANY, Sizes, SmallRun, few_images, shrunk
from usae.showing.estimate.stages import JOINING, count, sae_steps, stage_costs, trainings
from usae.showing.estimate.starts import START

WIDTHS = {"supervised": 96, "distilled": 112, "language": 96}
SIZES = Sizes(3000, 600, WIDTHS)
IMAGE = 64 * (96 + 112 + 96) * 2  # bytes: tokens, widths, float16
ROOMY = Machine(disk=10**12, memory=10**12, gpu=None)
PYTHON = Cost(3.0, 2.0)
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def small_runs(params, sizes, each, fixed=1.0):
    """Both small runs: all stages take `fixed`, and `each` for one of what they count; the CPU twice as much, and
    five bytes a second.
    """
    runs = []
    for times, passes in ((1, 2), (MANY, 4)):
        own = shrunk(params, (sizes.train, sizes.val), times, passes)
        there = Sizes(own.images.train, own.images.val, sizes.widths)
        seconds = {s: fixed + each(s) * count(s, own, there)[0] for s in [*all_stages(own), START]}
        seconds[JOINING] += each("train") * sae_steps(JOINING, own, there)
        runs.append(SmallRun(own, there, {s: np.array([own, 2 * own, 5 * own]) for s, own in seconds.items()}))
    return runs


def costs_of(params, sizes, each, fixed=1.0, read=1e9, memory=10**15):
    return stage_costs(params, sizes, small_runs(params, sizes, each, fixed), PYTHON, read, memory)


def seconds(costs):
    return {cost.stage: pytest.approx(cost.seconds) for cost in costs}


def test_the_stages_are_those_of_dvc_yaml_each_after_what_it_needs():
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert sorted(STAGES) == sorted(pipeline)
    makers = {out: name for name, stage in pipeline.items() for out in stage["outs"]}
    for number, name in enumerate(STAGES):
        needed = {maker for dep in pipeline[name]["deps"] for out, maker in makers.items() if dep.startswith(out)}
        assert needed <= set(STAGES[:number]), name


def test_what_is_counted_of_the_demo(params):
    steps = 6 * 47
    counts = {stage: count(stage, params, SIZES)[0] for stage in [*all_stages(params), START]}
    assert counts["images"] == counts["extract@language"] == counts["untrained@language"] == 3600
    assert counts["train"] == steps
    universal, independent, brief = 11, 1, 1 / 3  # an SAE of each of three models is one of all
    assert counts["controls"] == pytest.approx(steps * (universal + independent + brief))
    assert counts["onboarding"] == max(params.interventions.onboarding_images) + 600
    assert count("onboarding", params, Sizes(100, 60, WIDTHS))[0] == 160
    assert sae_steps("onboarding", params, SIZES) == pytest.approx(2 * 2 / 3 * steps)
    assert counts["methods@crosscoder"] == 2 * 47
    assert (counts["encode"], counts["contrast"], counts["planted"], counts["maximise"]) == (1200, 600, 5, 64)
    assert counts[START] == 64 * 256
    assert counts["report"] == counts["weights@language"] == 0


def test_a_stage_takes_pythons_start_its_fixed_part_and_its_count(params):
    found = costs_of(params, SIZES, lambda stage: 0.5 if stage != START else 0.0, fixed=2.0)
    took = seconds(found)
    starts = {"train": 1, "controls": 13, "onboarding": 4 / 3}  # each takes `fixed`
    for stage in all_stages(params):
        line = 2.0 + 0.5 * (count(stage, params, SIZES)[0] + (stage == JOINING) * 376)
        assert took[stage] == 3.0 + line + 2.0 * starts.get(stage, 0.0), stage
    train = next(cost for cost in found if cost.stage == "train")
    assert train.cost.cpu == pytest.approx(2.0 + 2 * (train.seconds - 3.0))
    assert train.does == "5.0 s + 282 SAE steps, 2 a second"
    unseen = {each.stage: each.does for each in costs_of(params, SIZES, lambda stage: 0.0, fixed=2.0)}
    assert unseen["train"] == "5.0 s + 282 SAE steps, no time of their own"
    assert unseen["onboarding"] == "5.0 s + 1600 images, no time of their own + 0.0 s of SAE steps"
    assert unseen["report"] == "5.0 s"


def test_extractions_go_by_the_image_that_was_timed_alone(params):
    few, many = small_runs(params, SIZES, lambda stage: 0.1)
    apart = {"image@language": np.array([0.101, 0.2, 0.0]), "image@distilled": np.array([0.2, 0.4, 0.0])}
    timed = replace(many, costs={**many.costs, **apart})
    took = seconds(stage_costs(params, SIZES, (few, timed), PYTHON, 1e9, 10**15))
    there = count("extract@language", timed.params, timed.sizes)[0]
    for stage in ("extract", "untrained"):
        assert took[f"{stage}@supervised"] == 3.0 + 1.0 + 0.1 * 3600
        assert took[f"{stage}@language"] == 3.0 + (1.0 - 0.001 * there) + 0.101 * 3600
        assert took[f"{stage}@distilled"] == 3.0 + 0.2 * 3600  # the fixed part is not below zero
    assert took["images"] == 3.0 + 1.0 + 0.1 * 3600
    disk = {each.stage: each.disk for each in stage_costs(params, SIZES, (few, timed), PYTHON, 1e9, 10**15)}
    assert disk["extract@language"] == disk["extract@supervised"] == 5 + 0.5 * 3600


def test_clusters_of_tokens_are_counted_once_there_are_enough(params):
    took = seconds(costs_of(params, SIZES, lambda stage: 0.001 if stage == START else 0.0, fixed=0.0))
    assert took["train"] == 3.0 + 16.384
    assert took["methods@crosscoder"] == 3.0  # starts in its own way


def test_controls_that_learn_from_less(raw_params):
    raw_params["controls"] |= {"images": 640, "epochs": 2}
    raw_params["methods"] |= {"nulls": True}
    params = parse_params(raw_params)
    assert count("train", params, SIZES)[0] == 6 * 47
    assert count("untrained@language", params, SIZES)[0] == 640 + 600
    with_twin = 12 + 1 + 1 / 3
    assert count("controls", params, SIZES)[0] == pytest.approx(20 * with_twin, abs=3)
    assert count("methods@crosscoder", params, SIZES)[0] == 2 * 47 + 3 * 20
    controls = next(each for each in trainings(params, 3000) if each.stage == "controls")
    assert len(controls.variants) == 18
    assert controls.read(params, SIZES) == 2 * 2 * 640 * IMAGE  # untrained networks too; halves are read twice
    small = small_runs(params, SIZES, lambda stage: 0.0)
    assert all(count("controls", run.params, run.sizes)[0] > 0 for run in small)


def test_what_is_larger_than_memory_is_read_from_the_disk(params):
    def train(memory):
        costs = costs_of(params, SIZES, lambda stage: 0.1 if stage != START else 0.0, 0.0, 1000.0, memory)
        return next(cost for cost in costs if cost.stage == "train")

    slow = train(3000 * IMAGE - 1)
    assert slow.seconds == 6 * 3000 * IMAGE / 1000
    assert slow.does.endswith("waits for the disk")
    assert train(3000 * IMAGE).seconds == pytest.approx(3.0 + 28.2)


def test_everything_fits_or_a_value_is_named_that_does(params):
    costs, trained = costs_of(params, SIZES, lambda stage: 1.0), trainings(params, 3000)
    costs = [replace(each, cost=each.cost._replace(disk=1e9)) for each in costs]
    assert list(verdicts(params, SIZES, costs, trained, ROOMY)) == []
    need = sum(cost.disk for cost in costs)
    (sentence,) = verdicts(params, SIZES, costs, trained, replace(ROOMY, disk=need - 1))
    assert "set `controls.images: 2999`, or `runtime.store` on a disk that has" in sentence


def test_a_batch_that_is_too_large_is_halved_until_it_fits(params):
    train = trainings(params, 3000)[0]
    whole = sum(training_bytes(train, params, SIZES))
    small = Machine(disk=10**12, memory=10**12, gpu=whole - 1)
    (sentence,) = verdicts(params, SIZES, [], [train], small)
    assert sentence.endswith("set `train.batch_images: 32`.")
    assert "of the GPU's memory" in sentence


def test_where_the_activations_lie(params):
    train = trainings(params, 3000)[0]
    read = 3000 * IMAGE
    assert resident(train, params, SIZES, ROOMY) == "in the page cache"
    assert resident(train, params, SIZES, replace(ROOMY, gpu=2 * read)) == "on the GPU"
    assert resident(train, params, SIZES, replace(ROOMY, memory=read)) == "on the disk"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_the_small_runs_of_every_preset_differ_in_what_is_counted(preset, monkeypatch):
    monkeypatch.chdir(ROOT)
    params = load_params(preset)
    sizes = Sizes(1_281_167, params.images.val or 50_000, dict.fromkeys(params.models, 8))
    few, many = small_runs(params, sizes, lambda stage: 0.0)
    assert few.sizes.train == few_images(params, sizes.train) == many.sizes.train / MANY
    for stage in all_stages(params):
        counts = [count(stage, each.params, each.sizes)[0] for each in (few, many)]
        assert counts[0] < counts[1] or counts == [0, 0], stage
        assert counts[1] <= count(stage, params, sizes)[0], stage


def test_a_small_run_is_never_larger_than_the_run(raw_params):
    raw_params["images"] |= {"train": 40, "val": 10}
    own = shrunk(parse_params(raw_params), (40, 10), MANY, 8)
    assert (own.images.train, own.images.val, own.train.epochs) == (40, 10, 6)


@pytest.mark.parametrize("preset", ["imagenet", "imagenet-paper"])
def test_the_controls_of_imagenet_can_be_afforded(preset):
    """In GFLOP: 82 take an image through the three networks, 4.7 an image and epoch through an SAE."""
    params = load_params(ROOT / "presets" / f"{preset}.yaml")
    sizes = Sizes(1_281_167, params.images.val or 50_000, {"siglip": 768, "dinov2": 384, "vit": 768})
    rates = {"extract": 82 / 3, "untrained": 82 / 3} | dict.fromkeys(("train", "controls", "onboarding"), 32 * 4.7)
    rates |= {"encode": 5 * 4.7 / 3, "contrast": 18 * 4.7}
    gflop = {
        stage: rates.get(stage.partition("@")[0], 0.0) * count(stage, params, sizes)[0]
        for stage in all_stages(params)
    }
    least = sum(own for stage, own in gflop.items() if stage.startswith("extract")) + gflop["train"]
    assert sum(gflop.values()) < 1.5 * least
    stores = [count(f"{kind}@vit", params, sizes)[0] for kind in ("extract", "untrained")]
    assert sum(stores) < 1.1 * stores[0]
