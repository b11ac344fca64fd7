import numpy as np
import pytest
import torch
import torch.nn.functional as F

from usae.common.seeds import generator
from usae.common.variant import Variant
from usae.training.start import archetypes, sae_and_starts
from usae.training.start.clusters import PER_CONCEPT

PLAIN, REPAIRED = Variant(4, 0), Variant(4, 0, "shuffled")


def points_of(world, params, variant=PLAIN):
    manifests, data = world
    sae, starts = sae_and_starts(manifests, data, params, variant)
    return sae, archetypes(sae, data, starts, variant)


def same_token(world, sae, points):
    """For each point, the largest cosine with one token in all models at once."""
    rows = world[1].rows(np.arange(world[1].images))
    cosines = [
        F.normalize(own) @ F.normalize(sae.standardise(model, rows[model])).T for model, own in points.items()
    ]
    return torch.stack(cosines).amin(0).amax(1)


@pytest.mark.parametrize("changes", [{}, {"init": "clusters"}, {"init": "clusters", "levels": (8,)}])
def test_the_first_points_are_what_concepts_start_at(world, recipe, changes):
    sae, points = points_of(world, recipe.model_copy(update=changes))
    for model, own in points.items():
        assert own.shape == (48, sae.widths[model])
        torch.testing.assert_close(F.normalize(own[:24]), sae.dictionary(model), atol=1e-5, rtol=0)


def test_a_point_is_the_same_token_in_all_models_unless_they_are_repaired(world, recipe):
    together = same_token(world, *points_of(world, recipe))
    torch.testing.assert_close(together, torch.ones(48), atol=1e-5, rtol=0)
    apart = same_token(world, *points_of(world, recipe, REPAIRED))
    assert apart[:24].mean() < 0.9
    assert apart[24:].mean() < 0.9


def test_means_of_clusters_are_in_the_unit_of_the_drawn_tokens(world, recipe):
    """One concept: its cluster is all sampled tokens, and the single drawn token is its own mean norm."""
    data = world[1]
    params = recipe.model_copy(update={"init": "clusters", "dictionary": 1})
    sae, points = points_of(world, params, Variant(1, 0))
    total = data.images * data.tokens
    sampled = generator(0, "cluster start").choice(total, PER_CONCEPT, replace=False)
    (drawn,) = generator(0, "archetypes").choice(total, 1, replace=False)
    for model, raw in data.rows(np.arange(data.images)).items():
        rows = sae.standardise(model, raw)
        expected = torch.stack([rows[sampled].mean(0), rows[drawn]]) / rows[drawn].norm()
        torch.testing.assert_close(points[model], expected, atol=1e-5, rtol=0)
