"""The family's step: by hand, against dense sums, and against the universal SAE's literal step."""

import itertools

import pytest
import torch
from torch import nn

from usae.methods.joint.family import Family
from usae.methods.joint.sae import CentredEncoder, Crosscoder, FreeCrosscoder, SparcSAE
from usae.methods.joint.step import JointStep
from usae.sae.universal import UniversalSAE
from usae.training.step.reference import StepRecipe, reference_step

WIDTHS = {"a": 6, "b": 4, "c": 5}
ROWS, CONCEPTS, K = 40, 24, 4
SPARC = Family(chosen_by="sum", cross=1.0)
UNIT = Family(chosen_by="sum", values="sum")
FREE = Family(chosen_by="sum", values="sum", scope="batch", free=True)
RECIPE = StepRecipe(loss="l2", update="all", aux="none")


def fresh(kind=SparcSAE, widths=WIDTHS, coarse=(), seed=0):
    torch.manual_seed(seed)
    sae = kind(widths, CONCEPTS, K, None, coarse).double().train()
    with torch.no_grad():
        for model in widths:
            sae.part(model).gain.uniform_(0.5, 2.0)
            if kind is not FreeCrosscoder:
                sae.part(model).encoder.norm.weight.uniform_(0.5, 1.5)
                sae.part(model).encoder.norm.bias.uniform_(-0.5, 0.9)
    return sae, [torch.randn(ROWS, width, dtype=torch.float64) for width in widths.values()]


def stepped(family, kind=SparcSAE, widths=WIDTHS, coarse=()):
    sae, rows = fresh(kind, widths, coarse)
    loss = JointStep(sae, family, "l2", 0)(dict.fromkeys(widths, rows))
    return sae, loss


def assert_same_step(one, other):
    """Losses and gradients."""
    (sae, loss), (reference, expected) = one, other
    torch.testing.assert_close(loss.total, expected.total)
    torch.testing.assert_close(loss.reconstruction, expected.reconstruction)
    for (name, mine), theirs in zip(sae.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)


def literal(sources, widths=WIDTHS, coarse=()):
    sae, rows = fresh(UniversalSAE, widths, coarse)
    return sae, reference_step(sae, dict.fromkeys(sources, rows), RECIPE)


@pytest.mark.parametrize("coarse", [(), (8,)])
def test_own_choice_and_even_weights_are_the_universal_sae_with_all_sources(coarse):
    assert_same_step(stepped(Family(), coarse=coarse), literal(WIDTHS, coarse=coarse))


@pytest.mark.parametrize(
    ("family", "kind"),
    [(Family(), SparcSAE), (SPARC, SparcSAE), (UNIT, Crosscoder), (Family(cross=1.0), SparcSAE)],
)
def test_of_one_model_all_are_the_same_sae(family, kind):
    one = {"a": 6}
    assert_same_step(stepped(family, kind, one), literal(one, one))


@pytest.mark.parametrize("source", WIDTHS)
def test_a_crosscoder_that_reads_one_model_at_a_time_is_the_universal_sae(source, monkeypatch):
    alone = torch.tensor([float(model == source) for model in WIDTHS], dtype=torch.float64)[:, None, None]
    monkeypatch.setattr(JointStep, "_kept", lambda self, pre: pre * alone)
    sae, loss = stepped(UNIT, Crosscoder)
    reference, expected = literal([source])
    torch.testing.assert_close(loss.total, expected.total)
    for (name, mine), theirs in zip(sae.named_parameters(), reference.parameters(), strict=True):
        if theirs.grad is None:
            assert not mine.grad.any(), name
        else:
            torch.testing.assert_close(mine.grad, theirs.grad, msg=name)


def dense_step(sae, rows, family):
    """Written out: dense codes by masks, every error by itself, and autograd."""
    pre = torch.stack([sae.part(model).encoder(own) for model, own in zip(sae.models, rows, strict=True)])
    total, losses = pre.sum(0), []
    for source in range(len(rows) if family.values == "own" else 1):
        values = pre[source] if family.values == "own" else total
        score = (pre[source] if family.chosen_by == "own" else total).detach()
        if family.free:
            score = score * sae.scale().detach()
        if family.scope == "token":
            kept = torch.zeros_like(score).scatter(1, score.topk(K, dim=1).indices, 1.0)
        else:
            kept = (
                score.relu() >= score.relu().flatten().sort(descending=True).values[K * len(score) - 1]
            ).double()
        z = values.relu() * kept
        for target, (model, own) in enumerate(zip(sae.models, rows, strict=True)):
            rows_of, offset = sae.part(model).gain * sae.dictionary(model), 0.0
            if family.free:
                rows_of, offset = sae.part(model).dictionary.weight, sae.part(model).dictionary.offset
            error = (own - z @ rows_of - offset).square().mean()
            models = len(sae.models)
            even = models - 1 if family.cross is None else family.cross
            cross = 1.0 if family.values == "sum" else even / (models * (models - 1))
            own_weight = 1.0 if family.values == "sum" else 1 / models
            losses.append(error * (own_weight if source == target or family.values == "sum" else cross))
    loss = torch.stack(losses).sum()
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (SPARC, SparcSAE),
        (Family(chosen_by="sum"), SparcSAE),
        (Family(scope="batch"), SparcSAE),
        (UNIT, Crosscoder),
        (FREE, FreeCrosscoder),
    ],
)
def test_loss_and_gradients_are_those_of_dense_codes(family, kind):
    sae, loss = stepped(family, kind)
    other, rows = fresh(kind)
    expected = dense_step(other, rows, family)
    torch.testing.assert_close(loss.total, expected.detach())
    for (name, mine), theirs in zip(sae.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)


def test_with_a_penalty_all_positive_codes_count_and_cost():
    family = Family(chosen_by="sum", values="sum", scope="positive", free=True)
    sae, rows = fresh(FreeCrosscoder)
    step = JointStep(sae, family, "l2", 0)
    step.penalty.strength = 0.3
    loss = step(dict.fromkeys(WIDTHS, rows))
    other, _ = fresh(FreeCrosscoder)
    z = torch.stack([other.part(m).encoder(own) for m, own in zip(WIDTHS, rows, strict=True)]).sum(0).relu()
    parts = [other.part(model) for model in WIDTHS]
    errors = [own - z @ p.dictionary.weight - p.dictionary.offset for own, p in zip(rows, parts, strict=True)]
    cost = sum(p.dictionary.weight.norm(dim=1) / p.gain for p in parts)
    by_target = torch.stack([error.square().mean() for error in errors])
    expected = by_target.sum() + 0.3 * (z @ cost).mean()
    expected.backward()
    torch.testing.assert_close(loss.total, expected.detach())
    torch.testing.assert_close(loss.reconstruction, by_target.detach())
    for (name, mine), theirs in zip(sae.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)


def read_as_given(concepts, k, models=2):
    """An SAE whose pre-codes are its tokens."""
    sae = SparcSAE({f"m{place}": concepts for place in range(models)}, concepts, k)
    for model in sae.models:
        encoder = CentredEncoder(concepts, concepts)
        nn.init.eye_(encoder.linear.weight)
        nn.init.zeros_(encoder.linear.bias)
        sae.part(model).encoder = encoder
    return sae


def dense_codes(family, rows, k):
    """Codes of every source, dense, with codes as given."""
    tensors = [torch.tensor(own) for own in rows]
    sae = read_as_given(tensors[0].shape[1], k, len(rows))
    parts = JointStep(sae, family, "l2", 0).codes(tensors)
    return [sum(codes.decoded(torch.eye(sae.concepts)) for codes in source).tolist() for source in parts]


def test_sparc_chooses_by_the_sum_and_keeps_own_values():
    logits = [[[2.0, 1.0, -1.0]], [[-3.0, 1.5, 1.0]]]
    assert dense_codes(SPARC, logits, 1) == [[[0.0, 1.0, 0.0]], [[0.0, 1.5, 0.0]]]
    assert dense_codes(Family(), logits, 1) == [[[2.0, 0.0, 0.0]], [[0.0, 1.5, 0.0]]]


def test_a_chosen_concept_may_be_silent():
    assert dense_codes(SPARC, [[[3.0, -1.0]], [[-1.0, 2.0]]], 1) == [[[3.0, 0.0]], [[0.0, 0.0]]]
    found = dense_codes(SPARC, [[[1.0, -2.0, -1.0]], [[1.0, -2.0, -2.0]]], 2)
    assert found == [[[1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]]


def test_weights_of_the_errors():
    step = JointStep(fresh()[0], SPARC, "l2", 0)
    expected = torch.full((3, 3), 1 / 6) + torch.eye(3) / 6  # a source's cross terms weigh as its own
    torch.testing.assert_close(step.weights(), expected)
    errors = torch.tensor([[0.2, 0.6], [0.8, 0.4]])  # self .2 and .4, cross .6 and .8
    for cross, total in ((1.0, 1.0), (0.5, 0.65)):
        two = JointStep(fresh(widths={"a": 6, "b": 4})[0], Family(cross=cross), "l2", 0)
        assert float((two.weights() * errors).sum()) == pytest.approx(total)


@pytest.mark.parametrize(("models", "expected"), [(2, 0.992), (3, 0.941)])
def test_the_global_choice_makes_independent_streams_agree(models, expected):
    """Jaccard of the fires per token, of logits that have nothing to do with each other."""
    torch.manual_seed(0)
    logits = [torch.randn(2000, 1024) for _ in range(models)]
    step = JointStep(read_as_given(1024, 8, models), SPARC, "l2", 0)
    chosen = [step.chosen(sum(logits), own) for own in logits]
    alone = [step.chosen(own, own) for own in logits]
    assert jaccard(chosen) == pytest.approx(expected, abs=0.01)
    assert jaccard(alone) == pytest.approx(0.004, abs=0.01)


def jaccard(sources):
    fires = [parts[0].decoded(torch.eye(1024)) > 0 for parts in sources]
    both = [(one & other).sum(1) / (one | other).sum(1) for one, other in itertools.combinations(fires, 2)]
    return torch.stack(both).nanmean().item()


@pytest.mark.parametrize(
    ("pre", "norms", "expected"),
    [
        ([[1.0, 3.0], [2.0, 0.0]], [4.0, 1.0], [[1.0, 0.0], [2.0, 0.0]]),
        ([[1.0, 3.0], [2.0, 0.0]], [1.0, 1.0], [[0.0, 3.0], [2.0, 0.0]]),
        ([[5.0, 4.0, 0.0], [1.0, 0.0, 3.0]], [1.0, 1.0, 1.0], [[5.0, 4.0, 0.0], [0.0, 0.0, 0.0]]),
        ([[5.0, 4.0, 0.0]], [1.0, 1.0, 1.0], [[5.0, 0.0, 0.0]]),
    ],
)
def test_a_batch_keeps_its_largest_scores_unscaled(pre, norms, expected):
    concepts = len(norms)
    sae = FreeCrosscoder({"a": concepts}, concepts, 1)
    part = sae.part("a")
    nn.init.eye_(part.encoder.linear.weight)
    nn.init.zeros_(part.encoder.linear.bias)
    part.dictionary.weight.data = torch.diag(torch.tensor(norms))
    ((codes,),) = JointStep(sae, FREE, "l2", 0).codes([torch.tensor(pre)])
    assert codes.decoded(torch.eye(concepts)).tolist() == expected


def test_prefixes_reconstruct_by_themselves_and_count_alike():
    sae, rows = fresh()
    step = JointStep(sae, Family(prefixes=(0.25, 1.0)), "l2", 0)
    loss = step(dict.fromkeys(WIDTHS, rows))
    other, rows = fresh()
    expected = []
    for model, own in zip(other.models, rows, strict=True):
        pre = other.part(model).encoder(own)
        z = torch.zeros_like(pre).scatter(1, pre.topk(K, dim=1).indices, 1.0) * pre.relu()
        for end in (6, CONCEPTS):
            decoders = [other.part(m).gain * other.dictionary(m) for m in other.models]
            errors = [(t - z[:, :end] @ d[:end]).square().mean() for t, d in zip(rows, decoders, strict=True)]
            expected.append(torch.stack(errors).sum() / 2 / 3)  # a mean over two prefixes and three sources
    torch.testing.assert_close(loss.total, torch.stack(expected).sum().detach())


def test_one_prefix_is_no_prefix():
    assert_same_step(stepped(Family(prefixes=(1.0,))), literal(WIDTHS))


def test_models_are_left_out_row_by_row_and_never_all():
    sae, _ = fresh(FreeCrosscoder)
    step = JointStep(sae, Family(chosen_by="sum", values="sum", free=True, kept=0.5), "l2", 0)
    pre = torch.ones(3, 2000, CONCEPTS, dtype=torch.float64)
    kept = step._kept(pre)[:, :, 0]
    torch.testing.assert_close(kept.sum(0), torch.full((2000,), 3.0, dtype=torch.float64))  # scaled to all of them
    shares = (kept > 0).double().mean(1)
    assert ((shares - 0.5 - 0.125 / 3).abs() < 0.04).all()  # a half, and a third of the rows that none was kept in
    assert torch.equal(step._kept(pre)[:, :, 0], kept)
    step.number = 1
    assert not torch.equal(step._kept(pre)[:, :, 0], kept)


def test_errors_are_the_mean_squares_of_the_last_step():
    sae, rows = fresh()
    step = JointStep(sae, SPARC, "l2", 0)
    loss = step(dict.fromkeys(WIDTHS, rows))
    assert step.errors().shape == (3, 3)
    torch.testing.assert_close((step.errors() * step.weights()).sum(), loss.total)
