import numpy as np
import pytest
import torch

from usae.common.errors import UserError
from usae.common.variant import Variant
from usae.sae.sparse import top_k
from usae.training.start import new_sae
from usae.training.start.tokens import starting_images


def test_a_concept_starts_at_one_token_in_every_model(world, recipe):
    manifests, data = world
    sae = new_sae(manifests, data, recipe, Variant(4, 0))
    images = np.arange(data.images)
    cosines = []
    for model, raw in data.rows(images).items():
        rows = sae.standardise(model, raw)  # (tokens, width)
        cosines.append(sae.dictionary(model) @ torch.nn.functional.normalize(rows).T)
    together = torch.minimum(*cosines)  # a token that is the concept's direction in both models
    torch.testing.assert_close(together.max(1).values, torch.ones(24), atol=1e-5, rtol=0)


def test_it_reconstructs_before_the_first_step(world, recipe):
    manifests, data = world
    scores = {}
    for init in ("random", "paired"):
        sae = new_sae(manifests, data, recipe.model_copy(update={"init": init}), Variant(4, 0))
        rows = sae.standardise("a", data.rows(np.arange(data.images))["a"])
        sae.train()
        codes = top_k(sae.part("a").encoder(rows), 4)
        error = (rows - sae.decode("a", codes)).square().sum()
        scores[init] = 1 - (error / rows.square().sum()).item()
    assert scores["paired"] > 0.4
    assert scores["random"] < 0


def test_shuffled_pairs_start_mispaired_too(world, recipe):
    manifests, data = world
    shuffled = new_sae(manifests, data, recipe, Variant(4, 0, "shuffled"))
    matched = new_sae(manifests, data, recipe, Variant(4, 0))
    assert torch.equal(shuffled.dictionary("a"), matched.dictionary("a"))
    assert not torch.equal(shuffled.dictionary("b"), matched.dictionary("b"))


def test_it_needs_enough_tokens(world, recipe):
    manifests, data = world
    with pytest.raises(UserError, match="are fewer than the 1000 concepts; lower `train.dictionary`"):
        new_sae(manifests, data, recipe.model_copy(update={"dictionary": 1000}), Variant(4, 0))


def test_statistics_of_all_channels_or_of_each(world, recipe):
    manifests, data = world
    scalar = new_sae(manifests, data, recipe, Variant(4, 0)).part("a")
    assert scalar.mean.tolist() == pytest.approx([manifests["a"].mean] * 8)
    assert scalar.std.tolist() == pytest.approx([manifests["a"].std] * 8)
    each = new_sae(manifests, data, recipe.model_copy(update={"standardize": "channel"}), Variant(4, 0))
    rows = each.standardise("a", data.rows(np.arange(data.images))["a"])
    assert each.part("a").mean.tolist() == pytest.approx(manifests["a"].channel_mean)
    assert each.part("a").std.tolist() == pytest.approx(manifests["a"].channel_std)
    assert rows.shape == (240, 8)


def test_gain_by_width(world, recipe):
    manifests, data = world
    sae = new_sae(manifests, data, recipe.model_copy(update={"gain": "width"}), Variant(4, 0))
    gains = [sae.part(model).gain.item() for model in sae.models]
    assert gains == pytest.approx([(8 / 9) ** 0.5, (10 / 9) ** 0.5])
    codes = sae.encode({"a": data.rows(np.arange(2))["a"]})["a"]
    assert sae.decode("b", codes).norm() > 0
    norms = (codes.dense(24) @ (gains[1] * sae.dictionary("b"))).norm()
    torch.testing.assert_close(sae.decode("b", codes).norm(), norms)


def test_another_seed_starts_at_other_tokens(world, recipe):
    manifests, data = world
    one, other = (new_sae(manifests, data, recipe, Variant(4, seed)).dictionary("a") for seed in (0, 7))
    same = (one @ other.T > 0.9999).any(dim=1).float().mean()
    assert same < 0.5


def test_a_stranger_alone_starts_at_other_images():
    images, models = np.random.default_rng(0).integers(0, 30, 50), ("a", "b", "c")
    starts = starting_images(images, 30, models, Variant(4, 0, "shuffled", stranger="b"))
    np.testing.assert_array_equal(starts[0], images)
    np.testing.assert_array_equal(starts[2], images)
    assert (starts[1] != images).all()
    everyone = starting_images(images, 30, models, Variant(4, 0, "shuffled"))
    assert all((everyone[i] != everyone[j]).all() for i, j in ((0, 1), (0, 2), (1, 2)))
    assert all((part == images).all() for part in starting_images(images, 30, models, Variant(4, 0)))
    with pytest.raises(UserError, match="in each of the 3 models, but there are 2 images"):
        starting_images(images % 2, 2, models, Variant(4, 0, "shuffled"))
