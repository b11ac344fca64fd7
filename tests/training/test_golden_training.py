"""The authors' own code as the yardstick: training runs of theirs, done again by the default path of `usae`.

Bounds are what rounding makes of the same step: sums in another order flip the sign of a few residuals near zero,
whose gradient under the L1 loss jumps.
"""

import numpy as np
import pytest
import torch

from tests.support.golden import TrainingSet, is_small, training_sets
from usae.common.params import TrainParams
from usae.sae.universal import UniversalSAE
from usae.training.loop.optimisation import Optimisation
from usae.training.loop.schedule import Schedule
from usae.training.step.fast import FastStep
from usae.training.step.reference import StepRecipe, reference_step

FINAL_RATE = 1e-6
PARAMETERS = {
    "encoder.final_block.0.weight": "encoder.linear.weight",
    "encoder.final_block.0.bias": "encoder.linear.bias",
    "encoder.final_block.1.weight": "encoder.norm.weight",
    "encoder.final_block.1.bias": "encoder.norm.bias",
    "dictionary._weights": "dictionary.weight",
}
STEPS = {"literal": reference_step, "fast": lambda sae, sources, recipe: FastStep(sae, recipe)(sources)}


@pytest.fixture(scope="module", params=training_sets(), ids=lambda golden: golden.path.stem)
def golden(request) -> TrainingSet:
    return request.param


@pytest.fixture(scope="module")
def activations(golden):
    return [torch.from_numpy(golden.inputs[f"act_{m}"]).float() for m in golden.models]


def recipe(golden):
    """The authors' recipe, with the sizes and rates of the set."""
    return TrainParams(
        dictionary=golden.concepts,
        epochs=int(golden.inputs["nb_epochs"]),
        batch_images=golden.inputs["order"].shape[1],
        learning_rate=float(golden.inputs["lr"]),
        final_learning_rate=FINAL_RATE,
        warmup_epochs=1,
        weight_decay=float(golden.inputs.get("weight_decay", 1e-5)),
        clip_norm=float(golden.inputs.get("clip_norm", 1.0)),
        standardize="scalar",
        gain="unit",
        init="random",
        dictionary_rows="free",
        levels=None,
        coarse_rate=0.1,
        sources="one",
        update="source",
        loss="l1",
        aux="multi_topk",
        aux_weight=0.1,
        aux_codes=512,
        dead_after=200,
        precision="float32",
        schedule="per_model",
        pairs="matched",
        window_images=None,
        shuffle_tokens=False,
    )


def initial(golden, activations):
    widths = {model: values.shape[-1] for model, values in zip(golden.models, activations, strict=True)}
    sae = UniversalSAE(widths, golden.concepts, golden.k)
    for model in golden.models:
        part = sae.part(model)
        part.mean.fill_(float(golden.inputs[f"mean_{model}"]))
        part.std.fill_(float(golden.inputs[f"std_{model}"]))
        state = {
            ours: torch.from_numpy(golden.inputs[f"init_{model}.{name}"]) for name, ours in PARAMETERS.items()
        }
        part.load_state_dict(state, strict=False)
    return sae


def batch_of(golden, activations, sae, step, dtype=torch.float32):
    images = golden.inputs["order"][step]
    rows = [a[images].flatten(0, 1).to(dtype) for a in activations]
    batch = [sae.part(m).standardise(r) for m, r in zip(sae.models, rows, strict=True)]
    return sae.models[golden.outputs["train_sel"][step]], batch


@pytest.fixture(scope="module")
def finished(golden, activations):
    """The SAE after all steps, and the loss, gradient norm and rate of each."""
    sae, params = initial(golden, activations), recipe(golden)
    schedule = Schedule(params.learning_rate, FINAL_RATE, int(golden.inputs["batches_per_epoch"]), golden.steps)
    engine, numbers = Optimisation(sae, params, schedule), []
    for step in range(golden.steps):
        source, batch = batch_of(golden, activations, sae, step)
        update = engine.step({source: batch})
        numbers.append((update.loss.total.item(), update.gradient_norm.item(), update.rate))
    return sae.eval(), *np.array(numbers).T


def first_gradients(golden, activations, step, dtype=torch.float32):
    """Of the source, clipped. Not of the bias before BatchNorm: its true gradient is zero."""
    sae = initial(golden, activations).to(dtype).train()
    source, batch = batch_of(golden, activations, sae, 0, dtype)
    step(sae, {source: batch}, StepRecipe())
    part = sae.part(source)
    torch.nn.utils.clip_grad_norm_(part.parameters(), recipe(golden).clip_norm)
    gradients = {name: parameter.grad.numpy() for name, parameter in part.named_parameters()}
    return {name: gradients[ours] for name, ours in PARAMETERS.items() if ours != "encoder.linear.bias"}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_first_gradients_after_clipping(golden, activations, step):
    for name, gradient in first_gradients(golden, activations, step).items():
        expected = golden.outputs[f"grad_s0.{name}"]
        assert np.linalg.norm(gradient - expected) / np.linalg.norm(expected) < 2e-4, name


def test_first_gradients_of_the_fast_step_are_those_of_the_literal_one(golden, activations):
    """In float64, where no sign flips."""
    literal, fast = (first_gradients(golden, activations, step, torch.float64) for step in STEPS.values())
    for name, expected in literal.items():
        assert np.linalg.norm(fast[name] - expected) / np.linalg.norm(expected) < 1e-12, name


def test_losses_follow_the_authors(golden, finished):
    error = np.abs(finished[1] / golden.outputs["train_loss"] - 1)
    assert error[:5].max() < 1e-5
    assert error[:20].max() < 4e-5
    assert error.max() < 2e-3


def test_gradient_norms_follow_the_authors(golden, finished):
    expected = np.take_along_axis(golden.outputs["train_norms"], golden.outputs["train_sel"][:, None], axis=1)[
        :, 0
    ]
    np.testing.assert_allclose(finished[2][:20], expected[:20], rtol=1e-3)


def test_learning_rates_are_the_authors(golden, finished):
    np.testing.assert_allclose(finished[3], golden.outputs["train_lr"], rtol=1e-6)


def test_final_weights_are_the_authors(golden, finished):
    for model in golden.models:
        weights = dict(finished[0].part(model).named_parameters())
        for name, bound in (("encoder.final_block.0.weight", 0.02), ("dictionary._weights", 0.002)):
            expected = golden.outputs[f"final_{model}.{name}"]
            error = np.linalg.norm(weights[PARAMETERS[name]].detach().numpy() - expected)
            assert error / np.linalg.norm(expected) < bound, (model, name)


def test_final_r2_in_eval_mode(golden, activations, finished):
    sae = finished[0]
    r2 = np.zeros((len(golden.models), len(golden.models)))
    with torch.no_grad():
        for i, source in enumerate(sae.models):
            codes = sae.encode({source: activations[i].flatten(0, 1)})[source]
            for j, target in enumerate(sae.models):
                a = sae.standardise(target, activations[j].flatten(0, 1))
                error = (a - sae.decode(target, codes)).double().square().mean()
                r2[i, j] = 1 - error / ((a - a.mean()).double().square().mean() + 1e-6)
    np.testing.assert_allclose(r2, golden.outputs["R2_eval_all"], atol=0.003)


def test_there_is_a_set_in_the_repository():
    assert any(is_small(golden.path) for golden in training_sets())
