"""What is counted, exactly: images, steps, SAEs and bytes of a run with rates that are round numbers."""

from dataclasses import replace

import pytest

from tests.conftest import ROOT
from usae.common.params import load_params, parse_params
from usae.showing.estimate.fits import Machine, resident, training_bytes, verdicts
from usae.showing.estimate.growth import Growth
from usae.showing.estimate.rates import Disk, EvidenceSeconds
from usae.showing.estimate.stages import Rates, Sizes, stage_costs, trainings

WIDTHS = {"supervised": 96, "distilled": 112, "language": 96}
SIZES = Sizes(3000, 600, WIDTHS)
IMAGE = 64 * (96 + 112 + 96) * 2  # bytes: tokens, widths, float16
NOTHING = Growth(0, 0)
ROOMY = Machine(disk=10**12, memory=10**12, gpu=None)


@pytest.fixture
def rates():
    """A second a step of each group, ten images a second of each model, and evidence that costs nothing."""
    steps = {
        ("train", 1): 1.0, ("controls", 1): 5.0, ("controls", 3): 1.0, ("onboarding", 1): 2.0,
        ("methods@crosscoder", 1): 1.0, ("methods@crosscoder, controls", 1): 4.0,
    }  # fmt: skip
    free = EvidenceSeconds(0.0, NOTHING, NOTHING, NOTHING, 0.0)
    return Rates(0.01, dict.fromkeys(WIDTHS, Growth(0, 0.1)), steps, 3.0, free, Disk(1e9, 1e9))


def seconds(costs):
    return {cost.stage: round(cost.seconds, 6) for cost in costs}


def test_a_run_with_full_controls(params, rates):
    costs = stage_costs(params, SIZES, rates, memory=10**12)
    found = seconds(costs)
    assert found["images"] == 36
    assert found["extract@language"] == found["untrained@language"] == 360
    steps = 6 * 47
    assert found["train"] == 3 + steps
    universal, alone = 11, 6
    assert found["controls"] == 3 * (universal + alone / 3) + 5 * steps + steps / 3
    assert found["onboarding"] == 3 * 2 * 2 / 3 + 2 * steps
    assert found["methods@crosscoder"] == 3 + 2 * 47
    stores = {cost.stage: cost.disk for cost in costs if "@" in cost.stage and "methods" not in cost.stage}
    assert sum(stores.values()) == 2 * 3600 * IMAGE


def test_controls_that_learn_from_less(raw_params, rates):
    raw_params["controls"] |= {"images": 640, "epochs": 2}
    raw_params["methods"] |= {"nulls": True}
    params = parse_params(raw_params)
    costs = stage_costs(params, SIZES, rates, memory=10**12)
    found = seconds(costs)
    assert found["train"] == 3 + 6 * 47
    assert found["untrained@language"] == 124
    assert found["controls"] == pytest.approx(3 * (12 + 2) + 5 * 20 + 20 / 3)  # with a twin
    assert found["methods@crosscoder, controls"] == 3 * 3 + 4 * 20
    controls = next(each for each in trainings(params, 3000) if each.stage == "controls")
    assert len(controls.variants) == 18
    assert (
        controls.read(params, SIZES) == 2 * 2 * 640 * IMAGE
    )  # untrained networks too; halves are read by themselves


def test_what_is_larger_than_memory_is_read_from_the_disk(params, rates):
    slow = replace(rates, disk=Disk(1e9, 1000.0))
    costs = stage_costs(params, SIZES, slow, memory=3000 * IMAGE - 1)
    train = next(cost for cost in costs if cost.stage == "train")
    assert train.seconds == 3 + 6 * 3000 * IMAGE / 1000
    assert train.does == "1 SAE, 282 steps, waits for the disk"
    assert seconds(stage_costs(params, SIZES, slow, memory=3000 * IMAGE))["train"] == 285


def test_everything_fits_or_a_value_is_named_that_does(raw_params, params, rates):
    costs, trained = stage_costs(params, SIZES, rates, 10**12), trainings(params, 3000)
    assert list(verdicts(params, SIZES, costs, trained, ROOMY)) == []
    need = sum(cost.disk for cost in costs)
    (sentence,) = verdicts(params, SIZES, costs, trained, replace(ROOMY, disk=need - 1))
    assert "set `controls.images: 2999`, or `runtime.store` on a disk that has" in sentence
    raw_params["controls"]["images"] = 2999
    less = parse_params(raw_params)
    fewer = sum(cost.disk for cost in stage_costs(less, SIZES, rates, 10**12) if "@" in cost.stage)
    assert fewer < sum(cost.disk for cost in costs if "@" in cost.stage)


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


@pytest.mark.parametrize("preset", ["imagenet", "imagenet-paper"])
def test_the_controls_of_imagenet_can_be_afforded(preset):
    """In GFLOP: 82 take an image through the three networks, 4.7 an image and epoch through an SAE."""
    params = load_params(ROOT / "presets" / f"{preset}.yaml")
    sizes = Sizes(1_281_167, params.images.val or 50_000, {"siglip": 768, "dinov2": 384, "vit": 768})
    step = 32 * 4.7
    steps = {
        (each.stage, share): step * len(group)
        for each in trainings(params, sizes.train)
        for share, group in each.groups.items()
    }
    encoding = Growth(0, 4.7)
    free = EvidenceSeconds(4.7 / 9, encoding, encoding, encoding, 0.0)
    rates = Rates(0.0, dict.fromkeys(sizes.widths, Growth(0, 82 / 3)), steps, 0.0, free, Disk(1e9, 1e9))
    costs = stage_costs(params, sizes, rates, memory=10**15)
    own = [cost for cost in costs if cost.stage.startswith("extract")]
    least = sum(cost.seconds for cost in own) + seconds(costs)["train"]
    assert sum(cost.seconds for cost in costs) < 1.5 * least
    stores = [cost for cost in costs if cost.stage.startswith(("extract", "untrained"))]
    assert sum(cost.disk for cost in stores) < 1.1 * sum(cost.disk for cost in own)
