"""The fast step is the reference step: loss and every gradient, in float64, for every switch."""

import itertools
from functools import partial

import pytest
import torch

from usae.sae.universal import UniversalSAE
from usae.training.step import fast
from usae.training.step.choice import products_for
from usae.training.step.fast import FastStep
from usae.training.step.reference import StepRecipe, reference_step

WIDTHS = {"a": 12, "b": 7, "c": 9}
ROWS, CONCEPTS, K = 60, 40, 5
SWITCHES = list(
    itertools.product(["l1", "l2", "frobenius"], ["source", "all"], ["multi_topk", "dead", "none"], WIDTHS)
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(fast, "BLOCK_ROWS", 16)  # so that rows are worked on in several blocks, the last one short


def fresh(seed: int, coarse: tuple[int, ...] = ()) -> tuple[UniversalSAE, list[torch.Tensor]]:
    torch.manual_seed(seed)
    sae = UniversalSAE(WIDTHS, CONCEPTS, K, coarse=coarse).double().train()
    with torch.no_grad():  # a BatchNorm that shifts, so that some rows have more than k + c/2 positive codes
        for model in WIDTHS:
            sae.part(model).encoder.norm.weight.uniform_(0.5, 1.5)
            sae.part(model).encoder.norm.bias.uniform_(-0.5, 0.9)
            sae.part(model).gain.uniform_(0.5, 2.0)
    offsets = torch.randn(3, dtype=torch.float64)  # the folded BatchNorm must not need centred tokens
    return sae, [
        torch.randn(ROWS, w, dtype=torch.float64) + o for w, o in zip(WIDTHS.values(), offsets, strict=True)
    ]


def dead_concepts() -> torch.Tensor:
    return torch.arange(CONCEPTS) % 4 == 1


def after(step_of, recipe, sources, seed, coarse=()):
    """sources: the models that are encoded, each with rows of its own."""
    sae, activations = fresh(seed, coarse)
    rows = {model: [part[i :: len(sources)] for part in activations] for i, model in enumerate(sources)}
    loss = step_of(sae, recipe)(rows, dict.fromkeys(sources, dead_concepts()))
    return loss, sae


def slow_step(sae, recipe):
    return lambda sources, dead: reference_step(sae, sources, recipe, dead)


def learns(name: str, sources: str, update: str) -> bool:
    model = name.split(".")[1]
    return model in sources or (update == "all" and "dictionary" in name)


def close(found, expected, what=""):
    error = (found - expected).norm() / expected.norm().clamp_min(1e-300)
    assert error < 1e-12, (what, error)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("loss", "update", "aux", "source"), SWITCHES)
def test_fast_equals_reference(loss, update, aux, source, seed):
    check(StepRecipe(loss, update, aux, 0.1, aux_codes=6), source, seed, ())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("coarse", [(), (11,), (5, 20)])
@pytest.mark.parametrize("sources", ["b", "ca", "abc"])
@pytest.mark.parametrize("aux", ["dead", "none"])
@pytest.mark.parametrize("loss", ["l1", "l2", "frobenius"])
def test_it_does_with_several_sources_and_levels(loss, aux, sources, coarse, seed):
    check(StepRecipe(loss, "all", aux, 0.1, aux_codes=6), sources, seed, coarse)


@pytest.mark.parametrize(
    ("recipe", "sources", "coarse"),
    [
        (StepRecipe("l1", "source", "multi_topk", 0.1), "b", ()),
        (StepRecipe("l2", "all", "dead", 0.1, aux_codes=6), "ca", (11,)),
    ],
)
def test_it_does_by_triton_kernels(monkeypatch, recipe, sources, coarse):
    """On a CPU in Triton's interpreter, which is slow."""
    monkeypatch.setitem(globals(), "ROWS", 9)
    monkeypatch.setattr(fast, "BLOCK_ROWS", 5)
    pytest.importorskip("triton", reason="Triton is not installed")
    from usae.training.step.kernel_products import KernelProducts

    check(recipe, sources, 0, coarse, partial(FastStep, products=KernelProducts()))


def check(recipe, sources, seed, coarse, quick_step=FastStep):
    slow, expected = after(slow_step, recipe, sources, seed, coarse)
    quick, found = after(quick_step, recipe, sources, seed, coarse)
    close(quick.total, slow.total)
    close(quick.reconstruction, slow.reconstruction)
    close(quick.auxiliary, slow.auxiliary)
    for source in sources:
        close(quick.codes[source].dense(CONCEPTS), slow.codes[source].dense(CONCEPTS))
    expected_gradients = {name: p.grad for name, p in expected.named_parameters()}
    for name, parameter in found.named_parameters():
        if not learns(name, sources, recipe.update):
            assert parameter.grad is None, name
        elif name.endswith("linear.bias"):
            assert parameter.grad.abs().max() == 0  # BatchNorm removes any bias before it
        else:
            close(parameter.grad, expected_gradients[name], name)
    for name, buffer in found.named_buffers():
        close(buffer.double(), dict(expected.named_buffers())[name].double(), name)


def test_some_rows_are_crowded_in_these_tests():
    """Otherwise the cut to the k + c/2 largest codes would never be exercised."""
    sae, activations = fresh(0)
    positive = (sae.part("a").encoder(activations[0]) > 0).sum(1)
    assert 0 < (positive > K + CONCEPTS // 2).sum() < ROWS


def test_mixed_precision_keeps_the_codes_and_stays_near():
    """Same top-k sets, since the encoder stays in float32; bounds of what bfloat16 may move."""
    found = {}
    for precision in ("float32", "mixed"):
        torch.manual_seed(0)
        sae = UniversalSAE({"a": 96, "b": 64}, 512, 16).train()
        generator = torch.Generator().manual_seed(1)
        rows = [torch.randn(400, width, generator=generator) for width in sae.widths.values()]
        loss = FastStep(sae, StepRecipe(update="all", precision=precision))({"a": rows})
        found[precision] = loss, {name: p.grad for name, p in sae.named_parameters() if p.grad is not None}
    (exact, gradients), (mixed, rough) = found.values()
    assert torch.equal(exact.codes["a"].indices.sort().values, mixed.codes["a"].indices.sort().values)
    torch.testing.assert_close(mixed.reconstruction, exact.reconstruction, rtol=1e-4, atol=0)
    torch.testing.assert_close(mixed.total, exact.total, rtol=1e-4, atol=0)
    assert not torch.equal(mixed.total, exact.total)
    for name, gradient in gradients.items():
        if gradient.norm() > 0:
            assert (rough[name] - gradient).norm() / gradient.norm() < 0.05, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernels", ["torch", "auto"])
@pytest.mark.parametrize("aux", ["multi_topk", "dead", "none"])
def test_the_gpu_computes_the_same(aux, kernels):
    recipe = StepRecipe(update="all", aux=aux, aux_codes=6)
    slow, expected = after(slow_step, recipe, "a", 0)
    sae, activations = fresh(0)
    sae.cuda()
    rows, dead = [part.cuda() for part in activations], dead_concepts().cuda()
    products = products_for(sae, lambda: rows, kernels, "float32")
    quick = FastStep(sae, recipe, products=products)({"a": rows}, {"a": dead})
    close(quick.total.cpu(), slow.total)
    gradients = {name: p.grad for name, p in expected.named_parameters()}
    for name, parameter in sae.named_parameters():
        if parameter.grad is not None and not name.endswith("linear.bias"):
            assert (parameter.grad.cpu() - gradients[name]).norm() / gradients[name].norm() < 1e-10, name
