"""The fast step is the reference step: loss and every gradient, in float64, for every switch."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from usae.sae import UniversalSAE
from usae.steps import Recipe, fast_step, largest_codes, reference_step

WIDTHS = {"a": 12, "b": 7, "c": 9}
ROWS, CONCEPTS, K = 60, 40, 5
SWITCHES = list(itertools.product(["source", "all"], ["multi_topk", "none"], WIDTHS))


def fresh(seed: int) -> tuple[UniversalSAE, list[torch.Tensor]]:
    torch.manual_seed(seed)
    sae = UniversalSAE(WIDTHS, CONCEPTS, K).double().train()
    with torch.no_grad():  # a BatchNorm that shifts, so that some rows have more than k + c/2 positive codes
        for model in WIDTHS:
            sae.part(model).encoder.norm.weight.uniform_(0.5, 1.5)
            sae.part(model).encoder.norm.bias.uniform_(-0.5, 0.9)
    return sae, [torch.randn(ROWS, width, dtype=torch.float64) for width in WIDTHS.values()]


def gradients(step, recipe, source, seed):
    sae, activations = fresh(seed)
    loss = step(sae, source, activations, recipe)
    loss.total.backward()
    return loss, {name: p.grad for name, p in sae.named_parameters()}


def learns(name: str, source: str, update: str) -> bool:
    model = name.split(".")[1]
    return model == source or (update == "all" and "dictionary" in name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("update", "aux", "source"), SWITCHES)
def test_fast_equals_reference(update, aux, source, seed):
    recipe = Recipe(update, aux, 0.1)
    slow, expected = gradients(reference_step, recipe, source, seed)
    fast, found = gradients(fast_step, recipe, source, seed)
    torch.testing.assert_close(fast.total, slow.total, rtol=1e-12, atol=0)
    torch.testing.assert_close(fast.reconstruction, slow.reconstruction, rtol=1e-12, atol=0)
    torch.testing.assert_close(fast.auxiliary, slow.auxiliary, rtol=1e-12, atol=0)
    assert torch.equal(fast.codes.dense(CONCEPTS), slow.codes.dense(CONCEPTS))
    for name, gradient in found.items():
        if not learns(name, source, update):
            assert gradient is None, name
        elif name.endswith("linear.bias"):
            assert gradient.abs().max() < 1e-12  # BatchNorm removes any bias before it
        else:
            error = (gradient - expected[name]).norm() / expected[name].norm()
            assert error < 1e-12, (name, error)


def test_some_rows_are_crowded_in_these_tests():
    """Otherwise the cut to the k + c/2 largest codes would never be exercised."""
    sae, activations = fresh(0)
    positive = (sae.part("a").encoder(activations[0]) > 0).sum(1)
    assert 0 < (positive > K + CONCEPTS // 2).sum() < ROWS


def test_largest_codes_keeps_exactly_the_largest():
    pre = torch.randn(50, 20, generator=torch.Generator().manual_seed(0)) + 0.5
    kept = largest_codes(pre, 8)
    expected = torch.zeros_like(pre).scatter(1, *reversed(F.relu(pre).topk(8)))
    assert torch.equal(kept, expected)


def test_the_auxiliary_term_selects_half_of_the_dictionary():
    """reference: the left-over codes are exactly c // 2 per row, so Y has at most k + c // 2."""
    sae, activations = fresh(1)
    pre = sae.part("b").encoder(activations[1])
    assert (largest_codes(pre, K + CONCEPTS // 2) > 0).sum(1).max() <= K + CONCEPTS // 2
