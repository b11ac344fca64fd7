import numpy as np
import pytest

from usae.common.numerics.ridge import LinearMap
from usae.common.tables import write_table
from usae.evidence.interventions.ablation import ImageFires, ablation_frame, agreements, effects, selectivity
from usae.evidence.interventions.readouts import through_decoder
from usae.evidence.interventions.study import intervene
from usae.evidence.interventions.tables import ABLATION
from usae.evidence.metrics.reconstruction.passes import features


def test_effects_equal_those_of_taking_each_concept_out(linear_world):
    """Against the definition: A' = A + (Z' - Z) D, scored, a mean over the images in which the concept fires."""
    study, causes = linear_world.study, linear_world.causes["val"]
    rng = np.random.default_rng(1)
    readouts = {m: LinearMap(rng.normal(size=(w, 3)), rng.normal(size=3)) for m, w in study.sae.widths.items()}
    fires = ImageFires(3, 5, 0.1)
    for chunks in zip(*study.codes.values(), strict=True):
        fires.update(chunks)
    changes = effects(fires, [through_decoder(study.sae, m, r).weights for m, r in readouts.items()])
    for position, (model, readout) in enumerate(readouts.items()):
        dictionary = study.sae.dictionary(model).detach().numpy()
        whole = features(study.sae, model, study.val[model], np.arange(40))  # (images, width)
        for concept in range(5):
            without = whole - causes[..., [concept]].mean(axis=1) @ dictionary[[concept]]
            fired = (causes[..., concept] > 0.1).any(axis=1)
            expected = (readout(without) - readout(whole))[fired].mean(axis=0)
            np.testing.assert_allclose(changes[position, concept], expected, atol=1e-6)
            assert fires.images[position, concept] == fired.sum()


def test_merged_counts_are_those_of_all_images(linear_world):
    whole, halves = ImageFires(3, 5, 0.1), [ImageFires(3, 5, 0.1) for _ in range(2)]
    for position, chunk in enumerate(zip(*linear_world.study.codes.values(), strict=True)):
        whole.update(chunk)
        halves[position % 2].update(chunk)
    halves[0].merge(halves[1])
    np.testing.assert_array_equal(halves[0].images, whole.images)
    np.testing.assert_allclose(halves[0].sums, whole.sums)


def changes_of(models: int, concepts: int, labels: int, noise: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(concepts, labels))
    return np.stack([common + noise * rng.normal(size=common.shape) for _ in range(models)])


def test_equal_effects_agree_and_mismatches_do_not():
    changes = changes_of(3, 200, 12, 0.0)
    alive = np.arange(200) < 190
    agreement, p = agreements(changes, alive, seed=0)
    np.testing.assert_allclose(agreement[alive], 1)
    assert (p[alive] <= 0.003).all()
    assert np.isnan(agreement[~alive]).all()
    assert np.isnan(p[~alive]).all()
    mismatched = np.stack([rows[np.random.default_rng(i).permutation(200)] for i, rows in enumerate(changes)])
    _, p = agreements(mismatched, np.ones(200, dtype=bool), seed=0)
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.04)


def test_what_all_concepts_do_alike_is_no_agreement():
    """A change that every concept makes, and labels of different size, cancel; one pair that differs decides."""
    changes = changes_of(2, 300, 9, 0.0)
    independent = np.stack([changes[0], changes_of(1, 300, 9, 0.0, seed=5)[0]])
    agreement, _ = agreements(independent + 100 * np.arange(9), np.ones(300, dtype=bool), seed=0)
    assert abs(agreement.mean()) < 0.05
    scaled = np.stack([changes[0], 3 * changes[1] * np.arange(1, 10) - 7])
    np.testing.assert_allclose(agreements(scaled, np.ones(300, dtype=bool), seed=0)[0], 1)
    three = np.concatenate([changes, independent[1:]])
    assert abs(agreements(three, np.ones(300, dtype=bool), seed=0)[0]).mean() < 0.5


def test_one_model_has_no_one_to_agree_with():
    agreement, p = agreements(changes_of(1, 4, 3, 0.0), np.ones(4, dtype=bool), seed=0)
    assert np.isnan(agreement).all()
    assert np.isnan(p).all()


def test_selectivity_is_the_largest_over_the_mean_of_the_others():
    ratios = selectivity(np.array([[[-6.0, 1, 2, 3], [0, 0, 0, 0]]]))
    assert ratios[0, 0] == 3
    assert np.isnan(ratios[0, 1])


def test_the_table_names_the_label_that_a_concept_carries(linear_world, tmp_path):
    linear_world.write("tokens")
    _, table = intervene(linear_world.study, 120, 0.1, seed=0)
    write_table(ABLATION, table, tmp_path / "ablation.parquet")
    assert table["label"].tolist() == [f"cause {cause}" for cause in range(5)]
    fired = linear_world.causes["val"].any(axis=1)
    means = linear_world.causes["val"].mean(axis=1)
    np.testing.assert_allclose(table["effect"], [-means[fired[:, c], c].mean() for c in range(5)], atol=1e-4)
    np.testing.assert_array_equal(table["images"], fired.sum(axis=0))
    np.testing.assert_allclose(table["agreement"], 1, atol=1e-4)
    assert (table["selectivity"] > 100).all()


def test_a_concept_that_is_dead_in_one_model_is_not_tested():
    fires = ImageFires(2, 30, 0.1)
    fires.images[:], fires.sums[:] = 4, 2.0
    fires.images[1, 7] = 0
    rows = changes_of(1, 30, 6, 0.0)[0]
    table = ablation_frame(fires, {"a": rows, "b": rows}, list("uvwxyz"), seed=0)
    dead = table.iloc[7]
    assert dead[["label", "effect", "selectivity", "agreement", "p", "q", "agrees"]].isna().all()
    assert table.drop(index=7)["agrees"].all()
    assert dead["images"] == 0
