import numpy as np
import pandas as pd
import pytest
import torch

from tests.evidence.conftest import CAUSES, sae_of, store_of
from usae.common.numerics.ridge import LinearMap, Products, ridge_r2
from usae.common.tables import write_table
from usae.evidence.onboarding.newcomer import Newcomer, PairedSums, add_codes, affine, matrix
from usae.evidence.onboarding.onboarding import MATCHED, SHUFFLED, UNTRAINED, Setup, onboard
from usae.evidence.onboarding.tables import ONBOARDING
from usae.sae.layers import Encoder
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes


@pytest.fixture
def setup(linear_world) -> Setup:
    """Model c joins a and b, whose codes are the causes."""
    study = linear_world.study
    maps = {model: study.sae.dictionary(model).detach().numpy() for model in "ab"}
    order = ("c", "a", "b")
    train, val = ({model: stores[model] for model in order} for stores in (study.train, study.val))
    origins = {model: np.zeros(store.width) for model, store in train.items()}
    return Setup(sae_of(maps), study.sae, origins, train, val)


def test_a_newcomer_that_sees_the_same_causes_is_explained_wholly(setup, linear_world, tmp_path):
    table = onboard(setup, (20, 120, 500), 0.5)
    write_table(ONBOARDING, table.assign(dictionary="trained"), tmp_path / "onboarding.parquet")
    assert table.groupby(["setting", "images"]).size().to_dict() == {
        (setting, images): 5 for setting in (MATCHED, SHUFFLED) for images in (20, 120)
    }
    assert set(zip(table["source"], table["target"], strict=True)) == {
        ("c", "c"), ("a", "c"), ("b", "c"), ("c", "a"), ("c", "b"),
    }  # fmt: skip
    matched = table[table["setting"] == MATCHED]
    np.testing.assert_allclose(matched["r2"], 1, atol=1e-3)
    np.testing.assert_allclose(matched["r2_ridge"], 1, atol=1e-5)
    share = linear_world.causes["val"].reshape(-1, CAUSES).mean(axis=0)
    lifts = matched.loc[matched["source"] != matched["target"], "lift"]
    np.testing.assert_allclose(lifts, np.median(1 / share), rtol=1e-6)


def test_a_newcomer_fitted_on_re_paired_images_shares_nothing(setup):
    table = onboard(setup, (120,), 0.1).query("setting == 'shuffled' and source != target")
    assert (table["r2"] < 0.05).all()
    assert (table["r2_ridge"] < 0.05).all()


def test_an_untrained_newcomer_is_fitted_on_true_pairs_and_has_rows_of_its_own(setup):
    table, matched = onboard(setup, (120,), 0.1, [UNTRAINED]), onboard(setup, (120,), 0.1, [MATCHED])
    assert set(table["setting"]) == {UNTRAINED}
    pd.testing.assert_frame_equal(table.drop(columns="setting"), matched.drop(columns="setting"))
    rng, folder = np.random.default_rng(1), setup.val["c"].path.parent
    unrelated = {
        split: stores | {"c": store_of(folder / f"random-{split}", rng.normal(size=(stores["c"].images, 4, 7)))}
        for split, stores in (("train", setup.train), ("val", setup.val))
    }
    table = onboard(Setup(setup.frozen, setup.statistics, setup.origins, **unrelated), (120,), 0.1, [UNTRAINED])
    assert (table.loc[table["source"] != table["target"], "r2"] < 0.05).all()


def test_more_images_than_there_are_give_one_fit_with_all(setup):
    assert set(onboard(setup, (500, 1000), 0.1)["images"]) == {120}


def test_what_is_fitted_on_fewer_images_before_does_not_change_a_newcomer(setup):
    table, alone = onboard(setup, (50, 100), 0.1), onboard(setup, (100,), 0.1)
    after = table[table["images"] == 100].reset_index(drop=True)
    pd.testing.assert_frame_equal(after, alone, check_exact=True)


def test_the_affine_map_is_the_encoder():
    torch.manual_seed(0)
    encoder = Encoder(6, 9)
    encoder(3 * torch.randn(50, 6) + 1)
    encoder.norm.weight.data.uniform_(0.5, 2)
    encoder.norm.bias.data.normal_()
    encoder.eval()
    rows = torch.randn(20, 6)
    np.testing.assert_allclose(affine(encoder)(rows.numpy()), encoder(rows).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_sparse_sums_are_the_dense_ones():
    rng = np.random.default_rng(0)
    indices = rng.random((30, 12)).argsort(axis=1)[:, :4]
    codes = SparseCodes(torch.from_numpy(indices), torch.from_numpy(rng.gamma(1, 1, (30, 4))))
    rows = rng.normal(size=(30, 5))
    sums, expected = Products.none(np.zeros(17)), Products.none(np.zeros(17))
    for tokens in (slice(0, 11), slice(11, 30)):
        add_codes(sums, matrix(codes, 12)[tokens], rows[tokens])
    expected.update(np.concatenate([codes.dense(12).numpy(), rows], axis=1))
    assert sums.count == expected.count
    np.testing.assert_allclose(sums.products, expected.products)
    np.testing.assert_allclose(sums.total, expected.total)


def test_channels_that_hardly_vary_do_not_drown_the_others():
    """Activations as of a random network: half of the channels nearly constant and far from 0, in float32."""
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(12000, 4))
    new, old = causes @ rng.normal(size=(4, 16)), causes @ rng.normal(size=(4, 8)) + rng.normal(size=(12000, 8))
    new[:, ::2] = 100 + 1e-3 * rng.normal(size=(12000, 8))
    rows = np.concatenate([new, old], axis=1).astype(np.float32)
    spans = {"new": slice(0, 16), "old": slice(16, 24)}
    codes = matrix(SparseCodes(torch.zeros(8000, 1, dtype=torch.int64), torch.zeros(8000, 1)), 3)
    origin = rows.mean(axis=0, dtype=np.float64)
    origins = {model: origin[span] for model, span in spans.items()}
    sums, test = PairedSums.none(origins, 3, [MATCHED]), Products.none(origin)
    sums.update({MATCHED: rows[:8000, :16]}, [rows[:8000, 16:]], [codes], np.arange(8000) % 5 == 4)
    test.update(rows[8000:])
    assert ridge_r2(*sums.activations[MATCHED]["old"], test, spans)["new", "old"] == pytest.approx(
        0.83, abs=0.02
    )  # about 0: -1.9


def test_a_newcomer_has_codes_of_every_level():
    same = LinearMap(np.eye(6), np.zeros(6))
    codes = Newcomer(same, same, Levels((3, 6), 2)).encode(np.array([[9.0, 8.0, 1.0, 2.0, 3.0, -1.0]]))
    assert codes.dense(6).tolist() == [[9.0, 0.0, 0.0, 0.0, 3.0, 0.0]]
