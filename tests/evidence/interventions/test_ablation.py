import numpy as np
import pytest
from scipy import stats

from usae.common.numerics.ridge import LinearMap
from usae.common.tables import write_table
from usae.evidence.codes.store import CodeChunk
from usae.evidence.interventions import ablation
from usae.evidence.interventions.ablation import (
    LEAST_IMAGES,
    ImageFires,
    ablation_frame,
    agreements,
    effects,
    selectivity,
)
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
    for chunks in zip(*study.codes["usae"].values(), strict=True):
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
    for position, chunk in enumerate(zip(*linear_world.study.codes["usae"].values(), strict=True)):
        whole.update(chunk)
        halves[position % 2].update(chunk)
    halves[0].merge(halves[1])
    np.testing.assert_array_equal(halves[0].images, whole.images)
    np.testing.assert_allclose(halves[0].sums, whole.sums)


def test_strengths_are_means_over_the_images_in_which_a_concept_fires():
    """The second image's code is not above the threshold: the image counts for nothing."""
    codes = np.array([[[0.5], [0.02]], [[0.1], [0.04]], [[0.3], [0.0]], [[0.0], [0.0]]], dtype=np.float32)
    chunk = CodeChunk(np.arange(4), np.zeros(codes.shape, dtype=np.uint16), codes)
    fires = ImageFires(1, 2, 0.1)
    fires.update([chunk])
    np.testing.assert_array_equal(fires.images, [[2, 0]])
    np.testing.assert_allclose(fires.strengths, [[(0.26 + 0.15) / 2, 0]], rtol=1e-6)


def changes_of(models: int, concepts: int, labels: int, noise: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(concepts, labels))
    return np.stack([common + noise * rng.normal(size=common.shape) for _ in range(models)])


def test_equal_effects_agree_and_mismatches_do_not():
    changes = changes_of(3, 200, 12, 0.0)
    alive = np.arange(200) < 190
    agreement, p = agreements(changes, alive)
    np.testing.assert_allclose(agreement[alive], 1)
    np.testing.assert_array_equal(p[alive], 1 / 190)  # no mismatch agrees as well; the match itself counts
    assert np.isnan(agreement[~alive]).all()
    assert np.isnan(p[~alive]).all()
    mismatched = np.stack([rows[np.random.default_rng(i).permutation(200)] for i, rows in enumerate(changes)])
    _, p = agreements(mismatched, np.ones(200, dtype=bool))
    assert (p <= 0.05).mean() <= 0.05


def test_agreement_and_p_are_those_of_the_definition():
    """Of every mismatch in turn: one model's concept is another one, the two other models keep theirs."""
    changes = changes_of(3, 25, 6, 0.8)
    peculiar = (changes - changes.mean(axis=1, keepdims=True)) / changes.std(axis=1, keepdims=True)

    def least(*concepts):
        return np.corrcoef([peculiar[m, c] for m, c in enumerate(concepts)])[np.triu_indices(3, 1)].min()

    agreement, p = agreements(changes, np.ones(25, dtype=bool))
    for concept in range(25):
        expected, shares = least(concept, concept, concept), []
        for model in range(3):
            mismatches = [[concept] * model + [c] + [concept] * (2 - model) for c in range(25) if c != concept]
            shares.append((1 + sum(least(*mismatch) >= expected for mismatch in mismatches)) / 25)
        assert agreement[concept] == pytest.approx(expected)
        assert p[concept] == max(shares)
    assert len(set(p)) > 5


def test_one_model_that_takes_no_part_is_enough_to_fail():
    """Two models agree on every concept; of the third one each concept does anything."""
    pair, stranger = changes_of(2, 300, 9, 0.1), changes_of(1, 300, 9, 0.0, seed=5)
    _, p = agreements(np.concatenate([pair, stranger]), np.ones(300, dtype=bool))
    assert (p <= 0.05).mean() <= 0.07
    assert (agreements(pair, np.ones(300, dtype=bool))[1] <= 0.05).all()


def test_many_concepts_are_compared_block_by_block(monkeypatch):
    changes = changes_of(3, 100, 6, 0.8)
    whole = agreements(changes, np.ones(100, dtype=bool))
    monkeypatch.setattr(ablation, "BLOCK", 7)
    np.testing.assert_array_equal(agreements(changes, np.ones(100, dtype=bool)), whole)


def test_what_all_concepts_do_alike_is_no_agreement():
    """A change that every concept makes, and labels of different size, cancel; one pair that differs decides."""
    changes = changes_of(2, 300, 9, 0.0)
    independent = np.stack([changes[0], changes_of(1, 300, 9, 0.0, seed=5)[0]])
    agreement, _ = agreements(independent + 100 * np.arange(9), np.ones(300, dtype=bool))
    assert abs(agreement.mean()) < 0.05
    scaled = np.stack([changes[0], 3 * changes[1] * np.arange(1, 10) - 7])
    np.testing.assert_allclose(agreements(scaled, np.ones(300, dtype=bool))[0], 1)
    three = np.concatenate([changes, independent[1:]])
    assert abs(agreements(three, np.ones(300, dtype=bool))[0]).mean() < 0.5


def test_one_model_has_no_one_to_agree_with():
    agreement, p = agreements(changes_of(1, 4, 3, 0.0), np.ones(4, dtype=bool))
    assert np.isnan(agreement).all()
    assert np.isnan(p).all()


def test_selectivity_is_the_largest_over_the_mean_of_the_others():
    ratios = selectivity(np.array([[[-6.0, 1, 2, 3], [0, 0, 0, 0]]]))
    assert ratios[0, 0] == 3
    assert np.isnan(ratios[0, 1])


def test_the_table_names_the_label_that_a_concept_carries(linear_world, tmp_path):
    linear_world.write("tokens")
    _, table = intervene(linear_world.study, 120, 0.1)
    write_table(ABLATION, table, tmp_path / "ablation.parquet")
    assert table["sae"].tolist() == ["usae"] * 5 + ["start"] * 5
    table, start = table.head(5), table.tail(5)
    assert start["agreement"].max() < 0.9
    assert table["label"].tolist() == [f"cause {cause}" for cause in range(5)]
    fired = linear_world.causes["val"].any(axis=1)
    means = linear_world.causes["val"].mean(axis=1)
    np.testing.assert_allclose(table["effect"], [-means[fired[:, c], c].mean() for c in range(5)], atol=1e-4)
    np.testing.assert_array_equal(table["images"], fired.sum(axis=0))
    np.testing.assert_allclose(table["agreement"], 1, atol=1e-4)
    assert (table["selectivity"] > 100).all()


def test_a_concept_that_is_dead_in_one_model_is_not_tested():
    fires = ImageFires(2, 30, 0.1)
    fires.images[:], fires.sums[:] = LEAST_IMAGES, 2.0
    fires.images[1, 7] = 0
    rows = changes_of(1, 30, 6, 0.0)[0]
    table = ablation_frame(fires, {"a": rows, "b": rows}, list("uvwxyz"))
    dead = table.iloc[7]
    assert dead[["label", "effect", "selectivity", "agreement", "p", "q", "agrees"]].isna().all()
    assert table.drop(index=7)["agrees"].all()
    assert dead["images"] == 0


def test_a_concept_of_few_images_is_measured_but_not_tested():
    fires = ImageFires(2, 60, 0.1)
    fires.images[:], fires.sums[:] = LEAST_IMAGES, 2.0
    fires.images[1, :30] = LEAST_IMAGES - 1
    rows = changes_of(2, 60, 6, 1.0)
    table = ablation_frame(fires, {"a": rows[0], "b": rows[1]}, list("uvwxyz"))
    few, enough = table.head(30), table.tail(30)
    assert few[["agreement", "p"]].notna().all(axis=None)
    assert few[["q", "agrees"]].isna().all(axis=None)
    np.testing.assert_allclose(enough["q"], stats.false_discovery_control(enough["p"]))


@pytest.mark.parametrize(("concepts", "agrees"), [(400, True), (399, False)])
def test_a_concept_agrees_at_a_false_discovery_rate_of_5_percent(concepts, agrees):
    """One of 20 concepts tested agrees better than all its mismatches: p = 1 / concepts, q = 20 / concepts."""
    fires = ImageFires(2, concepts, 0.1)
    fires.images[:, :20], fires.images[:, 20:], fires.sums[:] = LEAST_IMAGES, 1, 2.0
    first, second = (changes_of(1, concepts, 60, 0.0, seed=seed)[0] for seed in (0, 6))
    second[0], second[1:20] = 10 * first[0], -first[1:20]
    table = ablation_frame(fires, {"a": first, "b": second}, [f"label {label}" for label in range(60)])
    assert table["p"][0] == 1 / concepts
    assert table["q"][0] == pytest.approx(20 / concepts)
    assert table["agrees"][:20].tolist() == [agrees] + [False] * 19
