import numpy as np
import pytest
import torch
import torch.nn.functional as F

from usae import UniversalSAE
from usae.common.errors import UserError
from usae.common.files.json_files import read_json, write_json
from usae.sae.sparse import SparseCodes, sparse_decode, top_k

WIDTHS = {"a": 6, "b": 4}


@pytest.fixture
def sae():
    torch.manual_seed(0)
    model = UniversalSAE(WIDTHS, concepts=16, k=3, config={"note": "x"})
    model.part("a").mean.fill_(2.0)
    model.part("a").std.fill_(3.0)
    model.train()
    for name, width in WIDTHS.items():  # running statistics that are not the initial ones
        model.part(name).encoder(torch.randn(64, width) * 2 + 1)
    return model.eval()


def test_at_most_k_positive_codes_the_largest_ones():
    pre = torch.tensor([[0.5, -1.0, 2.0, 1.0], [-1.0, -2.0, -3.0, 0.25]])
    dense = top_k(pre, 2).dense(4)
    assert torch.equal(dense, torch.tensor([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.25]]))


def test_encode_is_topk_of_relu_of_batchnorm_in_eval_mode(sae):
    tokens = torch.randn(5, 7, 6)
    part = sae.part("a")
    x = (tokens - 2.0) / (3.0 + 1e-5)
    pre = F.batch_norm(
        F.linear(x.flatten(0, 1), part.encoder.linear.weight, part.encoder.linear.bias),
        *(getattr(part.encoder.norm, name) for name in ("running_mean", "running_var", "weight", "bias")),
    ).reshape(5, 7, 16)
    torch.testing.assert_close(sae.pre_codes("a", tokens), pre)
    expected = torch.zeros_like(pre).scatter(-1, *reversed(F.relu(pre).topk(3)))
    torch.testing.assert_close(sae.encode({"a": tokens})["a"].dense(16), expected)


def test_decode_of_anyones_codes_is_z_times_d(sae):
    codes = sae.encode({"a": torch.randn(5, 7, 6)})["a"]
    torch.testing.assert_close(sae.decode("b", codes), codes.dense(16) @ sae.dictionary("b"))


def test_concepts_have_unit_norm(sae):
    torch.testing.assert_close(sae.dictionary("a").norm(dim=1), torch.ones(16))


def test_energy_is_the_mean_code(sae):
    """norm(E[z_k] D_k) = E[z_k], since D_k has unit norm and z is not negative."""
    codes = sae.encode({"a": torch.randn(200, 6)})["a"].dense(16)
    energy = (codes.mean(0)[:, None] * sae.dictionary("a")).norm(dim=1)
    torch.testing.assert_close(energy, codes.mean(0))


def test_saved_and_loaded_bit_for_bit(sae, tmp_path):
    sae.save_pretrained(tmp_path / "one")
    again = UniversalSAE.from_pretrained(tmp_path / "one")
    assert again.config == {"note": "x"}
    assert again.models == ("a", "b")
    assert not again.training
    tokens = torch.randn(3, 6)
    assert torch.equal(again.pre_codes("a", tokens), sae.pre_codes("a", tokens))
    again.save_pretrained(tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_half_precision_activations_are_standardised_in_float32(sae):
    tokens = torch.randn(4, 6)
    assert sae.standardise("a", tokens.half()).dtype == torch.float32
    assert sae.standardise("a", tokens.double()).dtype == torch.float64


def test_sparse_decode_has_the_gradients_of_the_dense_product():
    gen = torch.Generator().manual_seed(0)
    dictionary = torch.randn(10, 4, dtype=torch.float64, generator=gen, requires_grad=True)
    values = torch.rand(6, 3, dtype=torch.float64, generator=gen, requires_grad=True)
    indices = torch.stack([torch.randperm(10, generator=gen)[:3] for _ in range(6)])
    codes = SparseCodes(indices, values)
    weight = torch.randn(6, 4, dtype=torch.float64, generator=gen)
    sparse = torch.autograd.grad((sparse_decode(codes, dictionary) * weight).sum(), (dictionary, values))
    dense = torch.autograd.grad((codes.dense(10) @ dictionary * weight).sum(), (dictionary, values))
    for a, b in zip(sparse, dense, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_errors_say_what_to_do(sae, tmp_path):
    with pytest.raises(UserError, match=r"k should be 1 to 4 .* found 5"):
        UniversalSAE({"a": 3}, concepts=4, k=5)
    with pytest.raises(UserError, match="was trained on a, b; it knows no 'c'"):
        sae.encode({"c": torch.zeros(1, 6)})["c"]
    with pytest.raises(UserError, match=r"'a' should have width 6, found \(2, 5\)"):
        sae.encode({"a": torch.zeros(2, 5)})["a"]
    with pytest.raises(UserError, match="run `dvc repro train`"):
        UniversalSAE.from_pretrained(tmp_path)


def test_an_sae_of_another_version_is_refused(tmp_path):
    UniversalSAE({"a": 4}, 8, 2).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    write_json(file, {**read_json(file), "format": 2})
    with pytest.raises(UserError, match="has format 2, this version reads 3; run `dvc repro train`"):
        UniversalSAE.from_pretrained(tmp_path)


def flipped(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 64
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("model.safetensors", flipped, r"model.safetensors has SHA-256 .{12}\.\.\., config.json says"),
        ("model.safetensors", lambda file: file.write_bytes(b""), "SHA-256"),
        ("model.safetensors", lambda file: file.unlink(), "No such file"),
        ("config.json", lambda file: file.write_text(file.read_text()[:40]), "Expecting"),
        ("config.json", lambda file: file.write_text("[]"), "list"),
        ("config.json", lambda file: file.write_text('{"format": 3}'), "widths|levels"),
        (
            "config.json",
            lambda file: write_json(file, {**read_json(file), "widths": {"a": 5}}),
            "Error.* loading",
        ),
        (
            "config.json",
            lambda file: write_json(file, {**read_json(file), "k": "2"}),
            "Type-check|not supported",
        ),
        (
            "config.json",
            lambda file: file.write_text(file.read_text().replace('"k": 2', '"k": 3')),
            "config.json has checksum .{8}, it says",
        ),
    ],
)
def test_damage_is_one_sentence(tmp_path, name, damage, reason):
    """A flipped bit of the weights is a number like any other: nothing but the digest would tell."""
    UniversalSAE({"a": 4}, 8, 2).save_pretrained(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(UserError, match=f"is damaged .*({reason}).*`dvc checkout` brings back") as error:
        UniversalSAE.from_pretrained(tmp_path)
    assert len(str(error.value).splitlines()) == 1
