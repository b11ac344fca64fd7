"""A store that is too large to be read at opening is read while something trains on it."""

import numpy as np
import pytest

from usae.activations.store import manifests
from usae.activations.store.manifests import Manifest
from usae.common.errors import UserError
from usae.training.stage import ReadMeanwhile


@pytest.fixture
def damaged(make_store):
    """One bit is another in the second chunk; the trailer is as it was."""
    store = make_store("s", np.random.default_rng(0).normal(size=(10, 4, 5)).astype("float16"))
    manifest = Manifest.generated("a", store)
    path = store.chunk_path(1)
    content = bytearray(path.read_bytes())
    content[7] ^= 16
    path.write_bytes(content)
    return manifest


def test_a_small_store_is_read_at_opening(damaged, tmp_path):
    with pytest.raises(UserError, match="The store .* of 'a' is damaged"):
        damaged.open("train", tmp_path)


def test_a_large_one_is_opened_and_refused_in_the_end(damaged, tmp_path, monkeypatch):
    monkeypatch.delenv("USAE_VERIFY", raising=False)
    monkeypatch.setattr(manifests, "VERIFIED", 0)
    damaged.open("train", tmp_path)
    reading = ReadMeanwhile([damaged], tmp_path)
    with pytest.raises(UserError, match=r"(?s)The store .* of .a. is damaged.* verify --repair .*Chunk 1"):
        reading.finish()


def test_a_sound_one_costs_nothing_but_time(make_store, tmp_path, monkeypatch):
    monkeypatch.delenv("USAE_VERIFY", raising=False)
    monkeypatch.setattr(manifests, "VERIFIED", 0)
    store = make_store("s", np.zeros((10, 4, 5), "float16"))
    ReadMeanwhile([Manifest.generated("a", store)], tmp_path).finish()


@pytest.mark.parametrize("said", ["0", "1"])
def test_what_is_said_of_reading_holds_here_too(damaged, tmp_path, monkeypatch, said):
    monkeypatch.setenv("USAE_VERIFY", said)
    monkeypatch.setattr(manifests, "VERIFIED", 0)
    if said == "1":
        with pytest.raises(UserError, match="is damaged"):
            damaged.open("train", tmp_path)
    else:
        ReadMeanwhile([damaged], tmp_path).finish()  # nothing is read
