import numpy as np
import pytest
import torch

from usae.activations.extraction.statistics import channel_moments, image_moments, sample_moments
from usae.activations.store import NativeMoments
from usae.common.errors import UserError


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_scalars_of_the_first_images(make_store, count):
    activations = np.random.default_rng(0).normal(3, 2, (8, 2, 5)).astype("float16")
    store = make_store("s", activations, chunk_images=3)
    sample, used = sample_moments(store, count)
    first = activations[:count].astype(np.float64)
    np.testing.assert_allclose(sample.scalar(), [first.mean(), first.std(ddof=1)], rtol=1e-12)
    assert used == count
    assert channel_moments(store).count == 16


@pytest.fixture
def resampled(make_store):
    """A store of 8 images, and the maps [8, 5, 3, 4] that its tokens came from, with their moments beside it."""
    maps = torch.from_numpy(np.random.default_rng(1).normal(3, 2, (8, 5, 3, 4)).astype("float32"))
    activations = np.zeros((8, 4, 5), "float16")
    store = make_store("s", activations, chunk_images=3, own_grid=[3, 4])
    for chunk in range(store.chunks):
        span = store.span(chunk)
        native = NativeMoments.of(image_moments(maps[span.start : span.stop]).numpy(), 12)
        store.write(chunk, activations[span.start : span.stop], native)
    return store, maps.double().numpy()


@pytest.mark.parametrize("count", [1, 3, 4, 7, None])
def test_scalars_before_resampling(resampled, count):
    store, maps = resampled
    sample, used = sample_moments(store, count, "before")
    np.testing.assert_allclose(sample.scalar(), [maps[:count].mean(), maps[:count].std(ddof=1)], rtol=1e-12)
    assert used == len(maps[:count])


def test_channel_moments_before_resampling(resampled):
    store, maps = resampled
    moments = channel_moments(store, "before")
    assert moments.count == 8 * 12
    np.testing.assert_allclose(moments.mean, maps.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(moments.m2 / moments.count, maps.var((0, 2, 3)), rtol=1e-12)


def test_large_offsets_do_not_cancel():
    maps = torch.tensor([[[[1e6, 1e6 + 1], [1e6 + 2, 1e6 + 3]]]])
    moments = NativeMoments.of(image_moments(maps).numpy(), 4)
    assert moments.channels().m2[0] == 5
    assert moments.scalar(1).m2[0] == 5


def test_the_file_is_the_same_every_time_and_damage_is_named(resampled):
    store, _ = resampled
    path = store.native_moments_path(1)
    first = path.read_bytes()
    store.write(1, np.array(store.chunk(1)), store.native_moments(1))
    assert path.read_bytes() == first
    assert not store.faults(deep=True)
    name, mended = (
        "The file of chunk 1's moments before resampling",
        f"`usae store verify --repair {store.path}`",
    )
    for place in range(len(first)):  # every byte, those of the checksum as well
        path.write_bytes(first[:place] + bytes([first[place] ^ 16]) + first[place + 1 :])
        with pytest.raises(UserError, match=f"{name} .* does not match its checksum.* {mended} lists all faults"):
            sample_moments(store, None, "before")
        assert store.done(1)
        assert [fault.damaged for fault in store.faults(deep=True)] == [path]
    path.write_bytes(first[:-30])
    with pytest.raises(UserError, match=rf"{name} .* should have 132 bytes, found 102 bytes. {mended}"):
        channel_moments(store, "before")
    assert [fault.damaged for fault in store.faults()] == [path]
    path.unlink()
    with pytest.raises(UserError, match=f"{name} .* found no file. {mended}"):
        channel_moments(store, "before")
    assert [store.done(chunk) for chunk in range(3)] == [True, False, True]
    assert [fault.damaged for fault in store.faults()] == [None]
    assert store.bytes_to_come == (12 * 5 * 2 + 4) + (80 + 4) + 132
