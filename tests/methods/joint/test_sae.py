"""How the family reads one model alone, and several together."""

import pytest
import torch

from usae.evidence.estimators import load_estimator
from usae.methods.joint.sae import Crosscoder, FreeCrosscoder, SparcSAE
from usae.sae.sparse import SparseCodes

WIDTHS = {"a": 6, "b": 4, "c": 5}


def trained(kind, seed=0, coarse=()):
    torch.manual_seed(seed)
    sae = kind(WIDTHS, 12, 3, {"method": METHODS[kind]}, coarse)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for model in WIDTHS:
            sae.part(model).gain.uniform_(0.5, 2)
            if kind is not FreeCrosscoder:
                sae.part(model).encoder.norm.running_mean.normal_()
            else:
                sae.part(model).encoder.centre.normal_()
    return sae.eval(), {model: torch.randn(20, width) for model, width in WIDTHS.items()}


METHODS = {SparcSAE: "sparc", Crosscoder: "crosscoder_unit", FreeCrosscoder: "crosscoder"}
KINDS = pytest.mark.parametrize("kind", METHODS)


@KINDS
@pytest.mark.parametrize("coarse", [(), (4,)])
def test_what_is_saved_is_opened_as_it_was(kind, coarse, tmp_path):
    sae, rows = trained(kind, coarse=coarse)
    sae.save_pretrained(tmp_path)
    again = load_estimator(tmp_path)
    assert type(again) is kind
    assert again.levels.ends == sae.levels.ends
    one, two = sae.encode(rows)["b"], again.encode(rows)["b"]
    assert torch.equal(one.values, two.values)
    assert torch.equal(sae.decode("c", one), again.decode("c", two))


@KINDS
def test_alone_a_model_is_read_whatever_the_others_hold(kind):
    sae, rows = trained(kind)
    alone = {model: sae.encode({model: own})[model] for model, own in rows.items()}
    noise = {model: torch.randn_like(own) for model, own in rows.items()}
    for model in WIDTHS:
        again = sae.encode({model: (noise | {model: rows[model]})[model]})[model]
        assert torch.equal(alone[model].indices, again.indices)


@KINDS
def test_together_the_others_count(kind):
    sae, rows = trained(kind)
    pre = {model: sae.pre_codes(model, own) for model, own in rows.items()}
    other = pre | {"b": sae.pre_codes("b", torch.randn_like(rows["b"]))}
    assert not torch.equal(sae.together(pre, "a").indices, sae.together(other, "a").indices)


def test_sparc_together_keeps_own_values_or_their_mean():
    sae, rows = trained(SparcSAE)
    pre = {model: sae.pre_codes(model, own) for model, own in rows.items()}
    chosen = sae.levels.top_k(sum(pre.values())).indices
    whole = sae.together(pre, "a")
    assert torch.equal(whole.indices, chosen)
    assert torch.equal(whole.values, pre["a"].gather(1, chosen).relu())
    others = {model: pre[model] for model in ("b", "c")}
    without = sae.together(others, "a")
    at = without.indices
    torch.testing.assert_close(without.values, (pre["b"].gather(1, at).relu() + pre["c"].gather(1, at).relu()) / 2)


@pytest.mark.parametrize("kind", [Crosscoder, FreeCrosscoder])
def test_an_absent_model_counts_as_its_mean_token(kind):
    sae, rows = trained(kind)
    if kind is Crosscoder:  # the token at which the linear map gives the running mean
        means = {}
        for model in WIDTHS:
            linear, norm = sae.part(model).encoder.linear, sae.part(model).encoder.norm
            means[model] = torch.zeros(20, WIDTHS[model])
            norm.running_mean.copy_(linear.bias.detach())
    else:
        means = {model: sae.part(model).encoder.centre.expand(20, -1) for model in WIDTHS}
    units = {model: means[model] * (sae.part(model).std + 1e-5) + sae.part(model).mean for model in WIDTHS}
    alone, filled = sae.encode({"a": rows["a"]})["a"], sae.encode(units | {"a": rows["a"]})["a"]
    assert torch.equal(alone.indices, filled.indices)
    torch.testing.assert_close(alone.values, filled.values)


def test_a_crosscoder_has_one_code_for_all():
    sae, rows = trained(FreeCrosscoder)
    codes = sae.encode(rows)
    assert all(torch.equal(codes["a"].values, own.values) for own in codes.values())
    whole = sum(sae.pre_codes(model, own) for model, own in rows.items()) * sae.scale()
    torch.testing.assert_close(codes["a"].values.sort().values, whole.relu().topk(3).values.sort().values)


def test_scaling_a_latent_against_its_encoder_changes_nothing():
    sae, rows = trained(FreeCrosscoder)
    before = sae.encode(rows)["a"], sae.encode({"b": rows["b"]})["b"]
    r2 = [sae.decode(model, before[0]) for model in WIDTHS]
    norms = sae.norms() / sae.norms().sum(0)
    with torch.no_grad():
        for model in WIDTHS:
            sae.part(model).dictionary.weight[5] *= 7
            sae.part(model).encoder.linear.weight[5] /= 7
            sae.part(model).encoder.linear.bias[5] /= 7
    after = sae.encode(rows)["a"], sae.encode({"b": rows["b"]})["b"]
    for one, two in zip(before, after, strict=True):
        assert torch.equal(one.indices, two.indices)
        torch.testing.assert_close(one.values, two.values)
    torch.testing.assert_close([sae.decode(model, after[0]) for model in WIDTHS], r2)
    torch.testing.assert_close(sae.norms() / sae.norms().sum(0), norms)


def test_norms_do_not_depend_on_the_width():
    """One signal in copies of 6 and 4 channels, each token's norm in proportion to the gain."""
    sae = FreeCrosscoder({"a": 6, "b": 4}, 3, 1)
    for model, gain in (("a", 1.5), ("b", 0.5)):
        sae.part(model).gain.fill_(gain)
        rows = torch.randn(3, sae.widths[model])
        sae.part(model).dictionary.weight.data = gain * rows / rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(sae.norms(), torch.ones(2, 3))
    torch.testing.assert_close(sae.scale(), torch.ones(3))


def test_a_code_is_what_it_adds():
    sae, _ = trained(FreeCrosscoder)
    one, none = (SparseCodes(torch.tensor([[4]]), torch.tensor([[value]])) for value in (1.0, 0.0))
    added = [(sae.decode(m, one) - sae.decode(m, none)).norm() / sae.part(m).gain for m in WIDTHS]
    assert float(torch.stack(added).mean()) == pytest.approx(1, abs=1e-5)
