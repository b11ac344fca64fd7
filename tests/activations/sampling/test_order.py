import numpy as np
import pytest

from usae.activations.sampling import Plan, check_batch, order
from usae.activations.sampling.order import TOKEN_WINDOW, Sampler
from usae.common.errors import UserError
from usae.common.seeds import generator

SIZES = {"images": 103, "tokens": 3, "chunk_images": 8}


def sampler(window_images=None, shuffle_tokens=False, batch_images=4):
    return Sampler(Plan(batch_images, 5, window_images, shuffle_tokens), **SIZES)


def tokens_of(pick):
    """Global numbers of a batch's tokens, in its order."""
    within = np.arange(len(pick.images) * 3) if pick.rows is None else pick.rows
    return pick.images[within // 3] * 3 + within % 3


def test_the_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(order(0, 1, 50), generator(0, "order of images", 1).permutation(50))
    assert not np.array_equal(order(0, 1, 50), order(0, 2, 50))
    assert not np.array_equal(order(0, 1, 50), order(1, 1, 50))


def test_windows_are_whole_chunks_in_random_order():
    images = order(0, 0, 103, window_images=20, chunk_images=8)
    assert sorted(images) == list(range(103))
    chunks = images // 8
    windows, start = [], 0
    while start < 103:  # two chunks each; the short last chunk may be in any
        size = 16 if 12 not in chunks[start : start + 15] else 15
        windows.append(set(chunks[start : start + size]))
        start += size
    assert [len(window) for window in windows] == [2] * 6 + [1]
    assert set().union(*windows) == set(range(13))
    assert [min(window) for window in windows] != sorted(min(window) for window in windows)


def test_a_window_smaller_than_a_chunk_is_one_chunk():
    images = order(0, 0, 96, window_images=3, chunk_images=8)
    assert all(len(set(chunk)) == 1 for chunk in (images // 8).reshape(12, 8))


@pytest.mark.parametrize("shuffle_tokens", [False, True])
@pytest.mark.parametrize("window_images", [None, 24])
def test_every_token_once_an_epoch(window_images, shuffle_tokens):
    drawn = sampler(window_images, shuffle_tokens)
    for epoch in (0, 2):
        picks = [drawn.pick(epoch * 26 + step) for step in range(26)]
        assert drawn.steps_per_epoch == 26
        assert [(pick.epoch, pick.step) for pick in picks] == [(epoch, epoch * 26 + i) for i in range(26)]
        assert [len(tokens_of(pick)) for pick in picks] == [12] * 25 + [9]
        assert sorted(np.concatenate([tokens_of(pick) for pick in picks])) == list(range(309))


def test_shuffled_tokens_come_from_the_images_of_sixteen_batches():
    pick = sampler(shuffle_tokens=True).pick(3)
    assert len(pick.images) == TOKEN_WINDOW * 4
    assert len(set(tokens_of(pick) // 3)) > 4
    assert not np.array_equal(pick.rows, np.sort(pick.rows))
    again = sampler(shuffle_tokens=True).pick(3 + 26)
    assert not np.array_equal(pick.rows, again.rows)


@pytest.mark.parametrize("shuffle_tokens", [False, True])
def test_shares_make_up_the_batch(shuffle_tokens):
    pick = sampler(shuffle_tokens=shuffle_tokens).pick(25)
    shares = [pick.share(number, 2) for number in range(2)]
    whole = pick.images if pick.rows is None else pick.rows
    parts = [share.images if pick.rows is None else share.rows for share in shares]
    together = np.empty_like(whole)
    together[0::2], together[1::2] = parts
    assert np.array_equal(together, whole)


@pytest.mark.parametrize("window_images", [16, 40, 1000])
def test_chunks_are_due_before_their_images_and_not_much_earlier(window_images):
    drawn = sampler(window_images)
    for first in (0, 7, 30):  # an interrupted run starts anywhere
        read = drawn.chunks_due(first).start
        known = set()
        for step in range(first, 78):
            pick, due = drawn.pick(step), drawn.chunks_due(step)
            known |= {(number // 13, drawn.chunk_at(number)) for number in range(read, due.stop)}
            read = max(read, due.stop)
            assert {(pick.epoch, chunk) for chunk in pick.images // 8} <= known
            assert len(due) <= 2 * max(2, window_images // 8) + 2
    assert len(known) <= 3 * 13 + window_images // 8 + 1


def test_nothing_is_due_where_the_whole_set_is_shuffled():
    assert len(sampler().chunks_due(3)) == 0


def test_a_batch_larger_than_the_set():
    with pytest.raises(UserError, match="`train.batch_images` is 32, but there are only 11 training images"):
        check_batch(32, 11)
