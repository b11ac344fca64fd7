"""A fit of plain arrays is what stage `train` gives of the same tokens."""

import numpy as np
import pytest
import torch
import yaml

import usae
from tests.support.worlds import ROOT, store_at
from usae.activations.sampling import open_paired
from usae.activations.store.manifests import Manifest
from usae.common.errors import UserError
from usae.common.params import parse_train
from usae.common.variant import Variant
from usae.training.fitting import RECIPE
from usae.training.loop.loop import RunOptions, train

SHORT = {"k": 4, "dictionary": 24, "batch_images": 8, "epochs": 6, "init": "paired"}


def arrays(dtype="float16"):
    """Two models that see the same sparse causes through different random maps."""
    rng = np.random.default_rng(0)
    causes = rng.random((40, 6, 12)) * (rng.random((40, 6, 12)) < 0.15)
    return {name: (causes @ rng.normal(size=(12, width))).astype(dtype) for name, width in (("a", 8), ("b", 10))}


def weights(sae):
    return sae.state_dict().items()


def same(one, two):
    return all(
        torch.equal(value, other) for (_, value), (_, other) in zip(weights(one), weights(two), strict=True)
    )


@pytest.fixture(scope="module")
def fitted():
    return usae.fit(arrays(), seed=3, **SHORT)


def test_stage_train_gives_the_same_bits_of_the_same_tokens(fitted, tmp_path):
    manifests = {
        name: Manifest.generated(name, store_at(tmp_path / name, each, 40)) for name, each in arrays().items()
    }
    sizes = {"warmup_epochs": 6 * 0.1, "levels": None}
    recipe = parse_train(RECIPE | sizes | {key: value for key, value in SHORT.items() if key != "k"})
    options = RunOptions(torch.device("cpu"))
    staged = train({"usae": Variant(4, 3)}, manifests, open_paired(manifests, tmp_path), recipe, options, seed=3)
    assert same(staged["usae"].sae, fitted)
    assert staged["usae"].sae.config == fitted.config


def test_the_seed_says_which(fitted):
    assert same(usae.fit(arrays(), seed=3, **SHORT), fitted)
    assert not same(usae.fit(arrays(), seed=4, **SHORT), fitted)


def test_tensors_rows_and_other_types_are_taken(fitted):
    assert same(usae.fit({name: torch.tensor(each) for name, each in arrays().items()}, seed=3, **SHORT), fitted)
    wide, rows = arrays("float64"), {}
    for name, each in wide.items():
        rows[name] = each.reshape(-1, each.shape[-1])
    by_rows = usae.fit(rows, **SHORT | {"batch_images": 48, "epochs": 2})
    assert by_rows.encode({"a": torch.tensor(rows["a"][:5]).float()})["a"].shape == (5, 4)


def test_it_can_be_kept_and_explains_both_models(tmp_path):
    activations = arrays("float32")
    sae = usae.fit(activations, k=4, dictionary=24, batch_images=8, epochs=40)
    sae.save_pretrained(tmp_path)
    again = usae.UniversalSAE.from_pretrained(tmp_path)
    assert same(again, sae)
    tokens = {name: torch.tensor(each) for name, each in activations.items()}
    with torch.inference_mode():
        truth = again.standardise("b", tokens["b"])
        decoded = again.decode("b", again.encode({"a": tokens["a"]})["a"])
    assert 1 - (truth - decoded).square().sum() / (truth - truth.mean((0, 1))).square().sum() > 0.5
    assert list(tmp_path.iterdir())


def test_nothing_is_left_in_the_scratch_folder(tmp_path):
    usae.fit(arrays(), scratch=tmp_path, **SHORT | {"epochs": 1})
    assert not list(tmp_path.iterdir())


def test_the_recipe_is_that_of_own_data():
    own = yaml.safe_load((ROOT / "presets/own.yaml").read_text())["train"]
    sizes = {"dictionary", "levels", "epochs", "batch_images", "warmup_epochs"}
    assert {key: value for key, value in own.items() if key not in sizes} == RECIPE


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"b": np.zeros((39, 6, 10))}, "'a' has 40 images of 6 tokens"),
        ({"b": np.zeros(10)}, r"'b' should be \(images, tokens, width\) or \(rows, width\).*found \(10,\)"),
        ({"c/d": np.zeros((40, 6, 2))}, "'c/d' should be of letters, digits"),
        ({"b": np.full((40, 6, 10), np.inf)}, "'b' has values that are not finite, in images 0 to 39"),
    ],
)
def test_arrays_that_do_not_belong_together(changed, words):
    with pytest.raises(UserError, match=words):
        usae.fit(arrays() | changed, **SHORT)


def test_faults_of_the_recipe_are_those_of_the_section():
    with pytest.raises(UserError, match=r"`train.epoch` is not a parameter. Did you mean `train.epochs`\?"):
        usae.fit(arrays(), epoch=3)
    with pytest.raises(UserError, match="found 1"):
        usae.fit({"a": arrays()["a"]})
