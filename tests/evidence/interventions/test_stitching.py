from itertools import permutations

import numpy as np
import pytest

from usae.activations.store import ActivationStore
from usae.common.numerics.ranking import roc_auc
from usae.common.numerics.ridge import LinearMap
from usae.common.tables import write_table
from usae.evidence.interventions.readouts import fit_readouts
from usae.evidence.interventions.stitching import Route, matched_codes
from usae.evidence.interventions.study import intervene
from usae.evidence.interventions.tables import ABLATION, STITCHING


def run(world, labels):
    world.write(labels)
    return intervene(world.study, 120, 0.1)


@pytest.mark.parametrize(("kind", "score"), [("tokens", "auc"), ("classes", "accuracy")])
def test_where_all_models_see_the_same_every_way_recovers_everything(linear_world, tmp_path, kind, score):
    stitching, _ = run(linear_world, kind)
    write_table(STITCHING, stitching, tmp_path / "stitching.parquet")
    counts = {"clean": 3, "independent": 9, "ridge": 6, "start": 9, "usae": 9}
    assert stitching.groupby("method").size().to_dict() == counts
    assert set(stitching["score"]) == {score}
    start = stitching["method"] == "start"
    assert stitching.loc[start, "recovered"].mean() < 0.7
    stitching = stitching[~start]
    np.testing.assert_allclose(stitching["recovered"], 1, atol=0.03)
    assert (stitching.loc[stitching["method"] == "clean", "value"] > 0.9).all()
    usae = stitching[stitching["method"] == "usae"]
    np.testing.assert_allclose(usae["value"], usae["clean"], atol=1e-6)


def test_universal_codes_of_the_source_go_through_decoder_and_readout_of_the_target(half_blind_world):
    """Against the definition; a cause that either of the two models is blind to is not read out."""
    stitching, _ = run(half_blind_world, "tokens")
    usae = stitching[stitching["method"] == "usae"].set_index(["source", "target"])["value"]
    study, causes = half_blind_world.study, half_blind_world.causes["val"]
    readouts = fit_readouts(study.sae, study.train, study.targets(120)[0], 120)
    carried, blind = causes.any(axis=1), half_blind_world.blind  # (images, causes)
    for source, target in usae.index:
        codes = causes.mean(axis=1) * (np.arange(5) != blind[source])
        scores = readouts[target](codes @ study.sae.dictionary(target).detach().numpy())
        areas = [roc_auc(scores[:, cause], carried[:, cause]) for cause in range(5)]
        assert usae[source, target] == pytest.approx(np.mean(areas), abs=1e-6)
        seen = [cause not in (blind[source], blind[target]) for cause in range(5)]
        np.testing.assert_allclose(np.array(areas)[seen], 1, atol=0.1)
    assert usae.loc[[(m, m) for m in "abc"]].min() > usae.loc[[("a", "b"), ("b", "c"), ("c", "a")]].max()


def test_chance_of_classes_is_the_commonest_one(linear_world):
    stitching, _ = run(linear_world, "classes")
    counts = np.bincount(linear_world.classes["val"])
    assert set(stitching["chance"]) == {counts.max() / 40}


def test_without_labels_there_is_nothing_to_read(linear_world, tmp_path):
    for table, frame in zip((STITCHING, ABLATION), run(linear_world, "nothing"), strict=True):
        write_table(table, frame, tmp_path / f"{table.name}.parquet")
        assert frame.empty


def test_fewer_training_images_than_readouts_may_have_are_said(linear_world, caplog):
    caplog.set_level("INFO", "usae")
    linear_world.write("nothing")
    there = min(store.images for store in linear_world.study.train.values())
    for most in (there, there + 1):
        intervene(linear_world.study, most, 0.1)
    (said,) = [line for line in caplog.messages if "readout_images" in line]
    assert said.startswith(f"`interventions.readout_images` asks for {there + 1}, but there are {there} training")


def test_codes_in_another_order_are_matched_exactly(linear_world):
    study, orders = linear_world.study, linear_world.orders
    rows = linear_world.causes["val"].reshape(-1, 5)
    matches = matched_codes(study.independent, study.train, 120)
    assert set(matches) == set(permutations("abc", 2))
    for (source, target), match in matches.items():
        np.testing.assert_allclose(match(rows[:, orders[source]]), rows[:, orders[target]], atol=1e-3)


def test_readouts_maps_and_matches_learn_from_the_same_images(linear_world, monkeypatch):
    """Nothing reads codes of training images, and as many images as the readouts have are asked of every store."""
    linear_world.write("tokens")
    study = linear_world.study
    assert not study.layout.independent_codes("train").exists()
    read: dict[str, set[int]] = {}
    take = ActivationStore.take

    def noted(store, images):
        if store in study.train.values():
            read.setdefault(store.path.name, set()).update(int(image) for image in images)
        return take(store, images)

    monkeypatch.setattr(ActivationStore, "take", noted)
    intervene(study, 70, 0.1)
    assert read == {f"{model}-train": set(range(70)) for model in "abc"}


def test_scores_are_accuracy_or_the_area_under_the_curve():
    carried = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], dtype=bool)
    inputs = np.array([[2.0, 1], [1, 3], [5, 4], [9, 8]])
    route = Route("usae", "a", "b", "usae", LinearMap(np.eye(2), np.zeros(2)))
    for images in (slice(0, 2), slice(2, 4)):
        route.update(inputs[images], carried[images], exclusive=True)
        route.update(inputs[images], carried[images], exclusive=False)
    assert route.value(carried, exclusive=True) == 0.75
    assert route.value(carried, exclusive=False) == pytest.approx((3 / 4 + 2 / 4) / 2)
