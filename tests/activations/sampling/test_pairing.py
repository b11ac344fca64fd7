import numpy as np
import pytest
import torch

from usae.activations.sampling import Batch, mismatched_orders, shuffled_pairs


def batch(images, models=3, tokens=4, step=2, share=(0, 1)):
    """Rows [image, position, model]."""
    mine = np.asarray(images)[share[0] :: share[1]]
    rows = np.stack(np.broadcast_arrays(mine[:, None], np.arange(tokens)), -1).reshape(-1, 2)
    activations = {
        "abcd"[model]: torch.from_numpy(np.insert(rows, 2, model, axis=1)).float() for model in range(models)
    }
    return Batch(step, 0, np.asarray(images), activations, share)


@pytest.mark.parametrize("images", [np.arange(32), np.array([5, 9, 1])])
def test_images_never_meet_themselves_and_tokens_stay_in_place(images):
    given = batch(images)
    rows = shuffled_pairs(given, seed=0)
    assert torch.equal(rows["a"], given.activations["a"])
    for i, j in ("ab", "ac", "bc"):
        assert (rows[i][:, 0] != rows[j][:, 0]).all()
        assert torch.equal(rows[i][:, 1], rows[j][:, 1])
    for model, moved in rows.items():
        assert (moved[:, 2] == "abcd".index(model)).all()
        assert sorted(moved[::4, 0].tolist()) == sorted(images)


def test_single_rows_are_moved_where_tokens_are_shuffled():
    images = np.random.default_rng(0).integers(0, 20, 200)
    given = batch(images, tokens=1)
    rows = shuffled_pairs(given, seed=0)
    for i, j in ("ab", "ac", "bc"):
        assert (rows[i][:, 0] != rows[j][:, 0]).all()
    assert all(sorted(moved[:, 0].tolist()) == sorted(images) for moved in rows.values())


def test_the_pairing_is_a_function_of_seed_epoch_and_step():
    def partners(seed, step):
        return shuffled_pairs(batch(np.arange(32), step=step), seed)["b"][:, 0]

    assert torch.equal(partners(0, 2), partners(0, 2))
    assert not torch.equal(partners(0, 2), partners(1, 2))
    assert not torch.equal(partners(0, 2), partners(0, 3))


def test_every_partner_is_drawn_equally_often():
    met = np.zeros((4, 4))
    for draw in range(3000):
        met[np.arange(4), mismatched_orders(np.arange(4), 2, np.random.default_rng(draw))[1]] += 1
    assert (np.diag(met) == 0).all()
    assert np.allclose(met[~np.eye(4, dtype=bool)] / 3000, 1 / 3, atol=0.04)


@pytest.mark.parametrize(
    "images",
    [[], [0], [0, 1], [0, 0, 0, 1, 2, 3]],
    ids=["none", "one", "fewer than models", "one too common"],
)
def test_too_few_images_to_re_pair(images):
    assert mismatched_orders(np.array(images, np.int64), 3, np.random.default_rng(0)) is None
    if images:
        assert shuffled_pairs(batch(images), seed=0) is None


def test_as_many_images_as_models_is_enough():
    assert mismatched_orders(np.array([0, 0, 1, 1, 2, 2]), 3, np.random.default_rng(0)) is not None


def test_all_shares_leave_the_same_step_out():
    """Seven images in two shares are four and three: enough for three models, and too few for four."""
    for models, kept in ((3, True), (4, False)):
        for number in range(2):
            given = batch(np.arange(7), models=models, share=(number, 2))
            assert (shuffled_pairs(given, seed=0) is not None) == kept
