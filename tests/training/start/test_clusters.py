"""A concept starts at one cluster of tokens in every model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from usae.common.errors import UserError
from usae.common.variant import Variant
from usae.training.start import clusters, new_sae
from usae.training.start.kmeans import spherical_kmeans

CLUSTERS = {"init": "clusters"}
MATCHED = Variant(4, 0)


def started(world, recipe, variant=MATCHED, kept=None, **changes):
    manifests, data = world
    return new_sae(manifests, data, recipe.model_copy(update={**CLUSTERS, **changes}), variant, kept)


def tokens(world, sae):
    _, data = world
    raw = data.rows(np.arange(data.images))
    return {model: sae.standardise(model, raw[model]) for model in sae.models}


def test_a_concept_is_the_mean_of_the_same_tokens_in_every_model(world, recipe):
    """Found by hand: the clusters of all tokens side by side, about the mean token, each model at one scale."""
    manifests, _ = world
    sae = started(world, recipe)
    rows = tokens(world, sae)  # 240 tokens, fewer than the sample's bound
    seen = {}
    for model, own in rows.items():
        part = own - sae.standardise(model, torch.tensor(manifests[model].channel_mean))
        seen[model] = part / part.square().sum(1).mean().sqrt()
    joint = F.normalize(torch.cat(list(seen.values()), 1))
    cluster = (joint @ spherical_kmeans(joint, 24).T).argmax(1)
    for model in sae.models:
        for concept in range(24):
            members = rows[model][cluster == concept]
            torch.testing.assert_close(
                sae.dictionary(model)[concept].detach(), F.normalize(members.mean(0), dim=0), atol=1e-5, rtol=0
            )
            looks = seen[model][cluster == concept].mean(0)
            torch.testing.assert_close(
                sae.part(model).encoder.linear.weight[concept].detach(),
                F.normalize(looks, dim=0),
                atol=1e-5,
                rtol=0,
            )


def test_finer_levels_start_at_what_the_coarse_one_leaves(world, recipe):
    """Found by hand: every token less its cluster's mean in the best multiple, one for all models."""
    manifests, _ = world
    sae = started(world, recipe, levels=(8,))
    rows, centres = [], []
    for model, own in tokens(world, sae).items():
        centre = sae.standardise(model, torch.tensor(manifests[model].channel_mean))
        scale = (own - centre).square().sum(1).mean().sqrt()
        rows.append(own / scale)
        centres.append(centre / scale)
    joint, centre = torch.cat(rows, 1), torch.cat(centres)
    seen = F.normalize(joint - centre)
    cluster = (seen @ spherical_kmeans(seen, 8).T).argmax(1)
    atoms = torch.stack([joint[cluster == number].mean(0) for number in range(8)])[cluster]
    left = torch.stack([row - (row @ atom) / (atom @ atom) * atom for row, atom in zip(joint, atoms, strict=True)])
    assert left.square().sum() < 0.7 * joint.square().sum()
    finer = (F.normalize(left) @ spherical_kmeans(F.normalize(left), 16).T).argmax(1)
    for number in range(16):
        mean = left[finer == number].mean(0)[:8]  # of the first model
        expected = F.normalize(mean, dim=0)
        torch.testing.assert_close(sae.dictionary("a")[8 + number].detach(), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            sae.part("a").encoder.linear.weight[8 + number].detach(), expected, atol=1e-4, rtol=0
        )


def test_the_seed_matters_only_where_tokens_are_drawn(world, recipe, monkeypatch):
    one, other = (started(world, recipe, Variant(4, seed)) for seed in (0, 1))
    assert torch.equal(one.dictionary("a"), other.dictionary("a"))  # all tokens are clustered
    monkeypatch.setattr(clusters, "PER_CONCEPT", 5)
    one, again, other = (started(world, recipe, Variant(4, seed)) for seed in (0, 0, 1))
    assert torch.equal(one.dictionary("a"), again.dictionary("a"))
    assert not torch.equal(one.dictionary("a"), other.dictionary("a"))


def test_shuffled_pairs_are_clustered_as_they_are_paired(world, recipe):
    matched, shuffled = (started(world, recipe, Variant(4, 0, pairs)) for pairs in ("matched", "shuffled"))
    assert not torch.allclose(matched.dictionary("b"), shuffled.dictionary("b"))


def test_clusters_that_were_found_are_not_sought_again(world, recipe, tmp_path, monkeypatch):
    first = started(world, recipe, kept=tmp_path / "kept", levels=(8,))
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"0.centres", "1.centres"}
    sought = []
    monkeypatch.setattr(
        clusters, "spherical_kmeans", lambda *given: sought.append(given) or spherical_kmeans(*given)
    )
    again = started(world, recipe, kept=tmp_path / "kept", levels=(8,))
    assert not sought
    (tmp_path / "kept/1.centres").write_bytes(b"damaged")
    mended = started(world, recipe, kept=tmp_path / "kept", levels=(8,))
    assert len(sought) == 1
    for sae in (again, mended):
        for name, value in first.state_dict().items():
            assert torch.equal(value, sae.state_dict()[name]), name


def test_it_needs_enough_tokens(world, recipe):
    with pytest.raises(UserError, match="`train.init: clusters` starts every concept at a token of its own"):
        started(world, recipe, dictionary=1000)


def test_tokens_that_leave_nothing_still_give_directions(world, recipe, monkeypatch):
    """As many coarse concepts as tokens: each is its own cluster, and the next level has only zeros."""
    monkeypatch.setattr(clusters, "PER_CONCEPT", 1)
    sae = started(world, recipe, levels=(20,))
    for model in sae.models:
        for weight in (sae.part(model).dictionary.weight, sae.part(model).encoder.linear.weight):
            torch.testing.assert_close(weight.norm(dim=1), torch.ones(24))
    assert all(value.isfinite().all() for value in sae.state_dict().values())
