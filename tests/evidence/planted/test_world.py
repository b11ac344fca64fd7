"""Planted worlds: counts, unit directions, exact signals, and statistics that follow the parameters."""

import numpy as np
import pytest

from usae.evidence.planted.world import PlantedWorld


@pytest.fixture
def world_params(params):
    return params.planted.world


def drawn(world_params, seed=0, **changes):
    return PlantedWorld.draw(world_params.model_copy(update=changes), seed)


def activity(world, images=400):
    return np.concatenate([block.activity for block in world.blocks("val", images, 50)])


def test_kinds_owners_and_directions(world_params):
    world = drawn(world_params, widths=(8, 9, 10), shared=3, pairwise=2, private=2, twins=1)
    kinds, counts = np.unique(world.kinds, return_counts=True)
    assert dict(zip(kinds.tolist(), counts.tolist(), strict=True)) == {
        "shared": 3, "pair": 6, "private": 6, "twin": 3,
    }  # fmt: skip
    assert world.owners.sum(axis=1).tolist() == [3] * 3 + [2] * 6 + [1] * 9
    assert world.owners.sum(axis=0).tolist() == [3 + 4 + 2 + 1] * 3
    assert world.superposition.tolist() == [10 / 8, 10 / 9, 1]
    for model, rows in enumerate(world.directions):
        assert rows.shape == (18, 8 + model)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), world.owners[:, model], atol=1e-12)


def test_of_five_models_every_two_have_a_pair_and_each_is_left_out_once(world_params):
    changes = {"widths": (4,) * 5, "shared": 2, "pairwise": 1, "most": 1, "private": 1, "twins": 1}
    world = drawn(world_params, **changes)
    assert len(world.kinds) == world.params.concepts == 2 + 10 + 5 + 5 + 5
    owners = {kind: world.owners[world.kinds == kind].astype(int) for kind in ("pair", "most", "private")}
    assert owners["pair"].sum(axis=1).tolist() == [2] * 10
    assert len(np.unique(owners["pair"], axis=0)) == 10
    assert (1 - owners["most"]).tolist() == np.eye(5, dtype=int)[::-1].tolist()
    assert owners["private"].tolist() == np.eye(5, dtype=int).tolist()
    assert world.superposition.tolist() == [(2 + 4 + 4 + 1 + 1) / 4] * 5


def test_an_image_is_a_function_of_seed_split_and_number(world_params):
    world = drawn(world_params)
    whole, blocks = next(world.blocks("train", 6, 6)), list(world.blocks("train", 6, 4))
    for model in range(3):
        rows = np.concatenate([block.activations[model] for block in blocks])
        np.testing.assert_array_equal(whole.activations[model], rows)
    assert whole.activations[0].dtype == np.float16
    assert not np.array_equal(whole.activity, next(world.blocks("val", 6, 6)).activity)
    assert not np.array_equal(whole.activity, next(drawn(world_params, seed=1).blocks("train", 6, 6)).activity)


def test_activations_are_activities_times_directions_and_noise_of_the_given_power(world_params):
    world = drawn(world_params, snr=25.0)
    blocks = list(world.blocks("val", 400, 50))
    for model, rows in enumerate(world.directions):
        signal = np.concatenate([block.activity for block in blocks]) @ rows
        noise = np.concatenate([block.activations[model] for block in blocks]).astype(np.float64) - signal
        assert noise.std() == pytest.approx(world.noise[model], rel=0.01)
        assert np.square(signal).mean() / np.square(noise).mean() == pytest.approx(25, rel=0.1)


def test_a_concept_covers_one_rectangle(world_params):
    world = drawn(world_params)
    for scene in activity(world, 20).reshape(20, world.params.grid, world.params.grid, -1):
        for concept in np.flatnonzero(scene.any(axis=(0, 1))):
            rows, columns = np.nonzero(scene[..., concept])
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_concepts_come_at_their_rates_with_mean_strength_one(world_params):
    world = drawn(world_params, class_pull=0.8)
    scenes = activity(world, 1500)
    rates = scenes.any(axis=1).mean(axis=0)
    np.testing.assert_allclose(rates, world.rates, atol=4 * np.sqrt(0.16 / 1500))
    assert scenes[scenes > 0].mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_twins_come_together_with_chance_rho_and_others_by_accident(world_params, rho):
    world = drawn(world_params, rho=rho, position_pull=0.0, class_pull=0.0, twins=8)
    active = activity(world, 1000) > 0
    first, second = (np.flatnonzero((world.kinds == "twin") & world.owners[:, model]) for model in (0, 1))
    both = (active[..., first] & active[..., second]).sum() / active[..., first].sum()
    assert both == pytest.approx(rho, abs=0.06)
    alone = np.flatnonzero(world.kinds == "private")
    together = active[..., alone[0]] & active[..., alone[-1]]
    assert together.sum() < 0.1 * active[..., alone[0]].sum()


def test_confounds_tie_concepts_to_positions_and_classes(world_params):
    tied = drawn(world_params, position_pull=1.0, class_pull=0.0)
    strength = activity(tied, 600).mean(axis=0)  # (tokens, concepts)
    share = strength.max(axis=0) / strength.mean(axis=0)
    free = activity(drawn(world_params, position_pull=0.0, class_pull=0.0), 600).mean(axis=0)
    assert np.median(share) > 1.3 * np.median(free.max(axis=0) / free.mean(axis=0))
    classes = drawn(world_params, position_pull=0.0, class_pull=1.0)
    present = activity(classes, 400).any(axis=1)
    one, other = (classes.homes[:, 0] == label for label in (0, 1))
    assert not (present[:, one].any(axis=1) & present[:, other].any(axis=1)).any()
