import threading
import time

import numpy as np
import pytest
import torch

from usae.activations.sampling import Loader, PairedActivations, Plan
from usae.activations.sampling.prefetch import ahead
from usae.activations.sampling.resident import keeps
from usae.activations.store import ActivationStore
from usae.common.errors import UserError

CPU = torch.device("cpu")
PLANS = {
    "images": Plan(4, 1),
    "window": Plan(4, 1, window_images=16),
    "tokens": Plan(4, 1, shuffle_tokens=True),
    "tokens of a window": Plan(4, 1, window_images=16, shuffle_tokens=True),
}
EPOCH = 25  # steps; the last has three images


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ninety-nine images of two tokens, in files of eight and four; a row begins with its image and position."""
    stores = {}
    for name, width, chunk_images in (("a", 3, 8), ("b", 5, 4)):
        rows = np.random.default_rng(width).normal(size=(99, 2, width)).astype("float16")
        rows[..., 0], rows[..., 1] = np.arange(99)[:, None], np.arange(2)
        store = ActivationStore.create(tmp_path_factory.mktemp(name), rows.shape, chunk_images, "float16", {})
        for chunk in range(store.chunks):
            store.write(chunk, rows[store.span(chunk).start : store.span(chunk).stop])
        stores[name] = store
    return PairedActivations(stores)


@pytest.fixture(params=PLANS, ids=str)
def plan(request):
    return PLANS[request.param]


def same(one, other):
    assert (one.step, one.epoch) == (other.step, other.epoch)
    assert np.array_equal(one.images, other.images)
    assert list(one.activations) == list(other.activations)
    assert all(torch.equal(rows, other.activations[model]) for model, rows in one.activations.items())


@pytest.fixture
def expected(data, plan):
    """The batches of two epochs and a half, in one go."""
    return list(Loader(data, plan, CPU).batches(0, 62))


def test_rows_are_paired_whole_and_seen_once(data, plan, expected):
    whole = data.rows(np.arange(99))
    for epoch in range(2):
        seen = []
        for batch in expected[epoch * EPOCH : (epoch + 1) * EPOCH]:
            first = batch.activations["a"]
            tokens = (first[:, 0] * 2 + first[:, 1]).long()
            seen += tokens.tolist()
            assert np.array_equal(np.repeat(batch.images, len(first) // len(batch.images)), tokens // 2)
            for model, rows in batch.activations.items():
                assert rows.dtype == torch.float32
                assert torch.equal(rows, whole[model][tokens])
        assert sorted(seen) == list(range(198))
    assert [len(batch.activations["a"]) for batch in expected[:EPOCH]] == [8] * 24 + [6]
    assert [(batch.step, batch.epoch) for batch in expected] == [(s, s // EPOCH) for s in range(62)]


def test_a_run_may_start_and_stop_anywhere(data, plan, expected):
    loader = Loader(data, plan, CPU)
    for first, last in ((0, 1), (3, 20), (17, 26), (24, 51), (40, 62)):
        found = list(loader.batches(first, last))
        assert len(found) == last - first
        for one, other in zip(found, expected[first:last], strict=True):
            same(one, other)
    assert list(loader.batches(5, 5)) == []


def test_a_resident_set_gives_the_same_batches(data, plan, expected):
    loader = Loader(data, plan, CPU, resident="always")
    assert loader.resident
    for one, other in zip(loader.batches(10, 60), expected[10:60], strict=True):
        same(one, other)


@pytest.mark.parametrize("resident", ["never", "always"])
def test_shares_make_up_the_batch(data, plan, expected, resident):
    loaders = [Loader(data, plan, CPU, resident, share=(number, 3)) for number in range(3)]
    for whole, *parts in zip(expected, *(loader.batches(0, 62) for loader in loaders), strict=True):
        count = len(whole.images)
        for model, rows in whole.activations.items():
            together = torch.empty_like(rows).unflatten(0, (count, -1))
            for number, part in enumerate(parts):
                assert part.share == (number, 3)
                assert np.array_equal(part.images, whole.images)
                together[number::3] = part.activations[model].unflatten(0, (len(whole.images[number::3]), -1))
            assert torch.equal(together.flatten(0, 1), rows)


def test_waiting_is_measured_and_work_is_done_meanwhile(data):
    class Slow(PairedActivations):
        def gather(self, images, *, pinned=False):
            time.sleep(0.02)
            return super().gather(images, pinned=pinned)

    loader = Loader(Slow(data.stores), Plan(4, 1), CPU)
    began = time.perf_counter()
    for _ in loader.batches(0, 10):
        pass
    assert 0.9 * (time.perf_counter() - began) < loader.waited < time.perf_counter() - began
    before = loader.waited
    for _ in loader.batches(0, 10):
        time.sleep(0.04)
    assert loader.waited - before < 0.1  # the first batch


def test_a_file_that_goes_missing_or_is_cut_stops_with_its_name(data, tmp_path, make_store):
    rows = np.zeros((8, 2, 3), "float16")
    broken = PairedActivations({name: make_store(name, rows) for name in ("whole", "broken")})
    file = broken.stores["broken"].chunk_path(1)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(
        UserError, match=r"Chunk 1 \(.*broken/c/1/0/0\) cannot be read: [08] bytes instead of 12 at"
    ):
        list(Loader(broken, Plan(8, 0), CPU).batches(0, 1))
    file.unlink()
    with pytest.raises(UserError, match=r"cannot be read: .*No such file.*`usae store verify --repair"):
        list(Loader(broken, Plan(8, 0), CPU).batches(0, 1))
    with pytest.raises(UserError, match="cannot be read: .*No such file"):
        list(Loader(broken, Plan(4, 0, window_images=4), CPU).batches(0, 2))


def test_a_batch_larger_than_the_set(data):
    with pytest.raises(UserError, match="`train.batch_images` is 100, but there are only 99 training images"):
        Loader(data, Plan(100, 0), CPU)


def test_what_is_kept_on_the_device(data):
    assert data.bytes == 99 * 2 * (3 + 5) * 2
    assert [keeps(data, CPU, mode) for mode in ("auto", "never", "always")] == [False, False, True]


def test_ahead_keeps_the_order_and_its_distance():
    made = []

    def items():
        for number in range(6):
            made.append((number, threading.current_thread()))
            yield number

    found = ahead(items(), 2)
    assert next(found) == 0
    time.sleep(0.1)
    assert [number for number, _ in made] == [0, 1, 2]
    assert list(found) == [1, 2, 3, 4, 5]
    assert threading.main_thread() not in {thread for _, thread in made}


def test_ahead_hands_errors_on_and_stops_when_left():
    def items():
        yield 1
        raise UserError("as it should")

    with pytest.raises(UserError, match="as it should"):
        list(ahead(items(), 2))
    before = threading.active_count()
    found = ahead(iter(range(100)), 3)
    next(found)
    found.close()
    assert threading.active_count() <= before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("resident", ["auto", "never"])
def test_a_gpu_gets_the_same_batches(data, plan, expected, resident):
    loader = Loader(data, plan, torch.device("cuda"), resident)
    assert loader.resident == (resident == "auto")
    for one, other in zip(loader.batches(0, 62), expected, strict=True):
        assert all(rows.device.type == "cuda" for rows in one.activations.values())
        busy = [rows @ torch.randn(rows.shape[1], 4096, device="cuda") for rows in one.activations.values()]
        for rows, wanted in zip(one.activations.values(), other.activations.values(), strict=True):
            assert torch.equal(rows.cpu(), wanted)
        del busy
