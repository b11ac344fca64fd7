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


def shuffled_batch(seed=0, models=3, images=40, tokens=16, rows=200):
    """A batch as the loader gives it where tokens are shuffled."""
    drawn = np.random.default_rng(seed).choice(images * tokens, rows, replace=False)
    image, position = np.divmod(drawn, tokens)
    cells = np.stack([image, position], axis=1)
    activations = {"abcd"[m]: torch.from_numpy(np.insert(cells, 2, m, axis=1)).float() for m in range(models)}
    return Batch(2, 0, image, activations, positions=position)


def test_shuffled_tokens_keep_their_positions_and_never_meet_their_own_image():
    given = shuffled_batch()
    rows = shuffled_pairs(given, seed=0)
    for i, j in ("ab", "ac", "bc"):
        assert (rows[i][:, 0] != rows[j][:, 0]).all()
        assert torch.equal(rows[i][:, 1], rows[j][:, 1])
    for moved in rows.values():
        assert len({tuple(row) for row in moved.tolist()}) == len(moved) == len(given.images)


def test_rows_at_a_position_with_too_few_images_are_left_out():
    images, positions = np.array([0, 1, 2, 0, 1, 5]), np.array([7, 7, 7, 3, 3, 7])
    orders = mismatched_orders(images, 3, np.random.default_rng(0), positions)
    assert orders[0].tolist() == [0, 1, 2, 5]
    assert all(sorted(order.tolist()) == [0, 1, 2, 5] for order in orders)


@pytest.mark.parametrize("given", [batch(np.arange(20)), shuffled_batch()], ids=["images", "tokens"])
def test_one_stranger_moves_and_the_others_keep_their_pairs(given):
    rows = shuffled_pairs(given, seed=0, stranger="b")
    assert torch.equal(rows["a"][:, :2], rows["c"][:, :2])
    assert (rows["b"][:, 0] != rows["a"][:, 0]).all()
    assert torch.equal(rows["b"][:, 1], rows["a"][:, 1])
    assert (rows["b"][:, 2] == 1).all()
    first = shuffled_pairs(given, seed=0, stranger="a")
    assert torch.equal(first["b"][:, :2], first["c"][:, :2])
    assert (first["a"][:, 0] != first["b"][:, 0]).all()


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


@pytest.mark.parametrize("images", [[], [0], [0, 1]], ids=["none", "one", "fewer than models"])
def test_too_few_images_to_re_pair(images):
    assert mismatched_orders(np.array(images, np.int64), 3, np.random.default_rng(0)).shape == (3, 0)
    if images:
        assert shuffled_pairs(batch(images), seed=0) is None


def test_as_many_images_as_models_is_enough():
    assert mismatched_orders(np.array([4, 1, 2]), 3, np.random.default_rng(0)).shape == (3, 3)


def test_all_shares_leave_the_same_step_out():
    """Seven images in two shares are four and three: enough for three models, and too few for four."""
    for models, kept in ((3, True), (4, False)):
        for number in range(2):
            given = batch(np.arange(7), models=models, share=(number, 2))
            assert (shuffled_pairs(given, seed=0) is not None) == kept
