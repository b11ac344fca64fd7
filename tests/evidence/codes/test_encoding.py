import numpy as np
import torch

from usae.evidence.codes.encoding import encode_split
from usae.evidence.codes.store import CodeStore
from usae.sae.universal import UniversalSAE


def test_codes_on_disk_are_the_saes_codes(make_store, tmp_path):
    activations = np.random.default_rng(0).normal(size=(10, 4, 6)).astype("float16")
    store = make_store("s", activations, chunk_images=4)
    torch.manual_seed(0)
    sae = UniversalSAE({"a": 6}, concepts=20, k=3).eval()
    assert encode_split(sae, "a", store, tmp_path / "codes", "usae", None, torch.device("cpu")) == 10
    codes = CodeStore.open(tmp_path / "codes")
    expected = sae.encode({"a": torch.from_numpy(activations.astype(np.float32))})["a"].dense(20).detach()
    assert (codes.model, codes.sae, codes.grid, codes.concepts) == ("a", "usae", 2, 20)
    for chunk in codes:
        dense = torch.zeros(len(chunk.images), 4, 20)
        dense.scatter_(-1, torch.from_numpy(chunk.indices.astype(np.int64)), torch.from_numpy(chunk.values))
        torch.testing.assert_close(dense, expected[chunk.images], atol=2e-3, rtol=2e-3)


def test_a_limit_takes_the_first_images(make_store, tmp_path):
    activations = np.random.default_rng(0).normal(size=(10, 4, 6)).astype("float16")
    store = make_store("s", activations, chunk_images=4)
    sae = UniversalSAE({"a": 6}, concepts=20, k=3).eval()
    for limit in (6, 2):
        assert encode_split(sae, "a", store, tmp_path / "codes", "usae", limit, torch.device("cpu")) == limit
        assert CodeStore.open(tmp_path / "codes").images == limit


def test_models_chunked_differently_have_codes_chunked_alike(make_store, tmp_path):
    activations = np.random.default_rng(0).normal(size=(10, 4, 6)).astype("float16")
    sae = UniversalSAE({"a": 6}, concepts=20, k=3).eval()
    for size in (4, 8, 10):
        store = make_store(f"s{size}", activations, chunk_images=size)
        encode_split(sae, "a", store, tmp_path / f"codes{size}", "usae", 9, torch.device("cpu"), 4)
    first, *others = (CodeStore.open(tmp_path / f"codes{size}") for size in (4, 8, 10))
    for other in others:
        assert (other.images, other.chunk_images) == (9, 4)
        np.testing.assert_array_equal(other.read(range(9)).indices, first.read(range(9)).indices)
