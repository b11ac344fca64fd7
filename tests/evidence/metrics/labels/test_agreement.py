import numpy as np
import pytest

from usae.activations.store import ActivationStore
from usae.common.tables import write_table
from usae.evidence.codes.store import CodeStore, aligned_chunks
from usae.evidence.metrics.firing.exemplars import Exemplars
from usae.evidence.metrics.labels.agreement import fresh_agreement, label_tables
from usae.evidence.metrics.labels.concepts import LabelHalves
from usae.evidence.metrics.labels.labels import ImageLabels, TokenLabels, carried_by_images
from usae.evidence.metrics.labels.tables import LABEL_CONCEPTS, LABEL_PROBES
from usae.sae.universal import UniversalSAE

IMAGES, GRID, LABELS = 240, 2, 3
NAMES = ("red", "round", "dotted")
WIDTHS = {"a": 5, "b": 6}


@pytest.fixture
def truth():
    """Labels of tokens; each image shows each label with probability 1/2, on one of its tokens."""
    rng = np.random.default_rng(0)
    coverage = np.zeros((IMAGES, GRID**2, LABELS), np.uint8)
    for image, label in zip(*np.nonzero(rng.random((IMAGES, LABELS)) < 0.5), strict=True):
        coverage[image, rng.integers(GRID**2), label] = 255
    return coverage


@pytest.fixture
def run(truth, tmp_path):
    """Two models whose concept 2 - l is label l, and random activations for the floor."""
    codes, stores = {}, {}
    for number, (model, width) in enumerate(WIDTHS.items()):
        store = CodeStore.create(
            tmp_path / "codes" / model, model=model, sae="usae", images=IMAGES, grid=GRID, k=3, concepts=8,
            chunk_images=64,
        )  # fmt: skip
        for chunk in range(store.chunks):
            part = truth[chunk * 64 : (chunk + 1) * 64]
            store.write(chunk, np.broadcast_to([2, 1, 0], part.shape), (1 + number) * (part > 0))
        codes[model] = CodeStore.open(tmp_path / "codes" / model)
        rows = np.random.default_rng(number).normal(size=(IMAGES, GRID**2, width)).astype(np.float32)
        stores[model] = ActivationStore.create(tmp_path / model, rows.shape, IMAGES, "float32", {})
        stores[model].write(0, rows)
    return UniversalSAE(WIDTHS, 8, 3).eval(), codes, stores


def tables_of(run, labels):
    sae, codes, stores = run
    fires, strongest = LabelHalves.none(labels, 2, 8, 0.1), Exemplars(tuple(codes), 8, 60)
    for chunks in aligned_chunks(codes):
        fires.update(chunks)
        strongest.update(chunks)
    return label_tables(codes, fires, fresh_agreement(sae, stores, fires.choosing, 0), strongest, 0)


def test_concepts_that_are_the_labels_are_found_everywhere(run, truth, tmp_path):
    tables, numbers = tables_of(run, TokenLabels(NAMES, truth.reshape(IMAGES, GRID, GRID, LABELS)))
    for table, frame in tables.items():
        write_table(table, frame, tmp_path / f"{table.name}.parquet")
    best = tables[LABEL_CONCEPTS]
    assert best["concept_id"].tolist() == [2, 1, 0] * 2
    np.testing.assert_array_equal(best["iou"], 1)
    np.testing.assert_array_equal(best["auroc"], 1)
    probes = tables[LABEL_PROBES]
    assert probes["concept_id"].tolist() == [2, 2, 1, 1, 0, 0]
    assert (probes["log_loss"] < 0.2).all()
    assert numbers["label_jaccard"] == 1
    assert numbers["label_jaccard_all"] == 3 / 8
    assert numbers["label_purity"] == 1
    assert 0 < numbers["label_jaccard_floor"] < 1
    assert 0 < numbers["label_jaccard_all_floor"] <= numbers["label_jaccard_floor"]


def test_classes_of_images_leave_the_unlabelled_out(run):
    classes = np.where(np.arange(IMAGES) % 3 == 2, -1, np.arange(IMAGES) % 3)
    tables, _ = tables_of(run, ImageLabels(("zero", "one"), classes))
    assert set(tables[LABEL_CONCEPTS]["tokens"]) == {IMAGES // 3 * GRID**2}  # two thirds of one half
    assert (tables[LABEL_PROBES]["n"] == 24).all()


def test_few_images_give_no_probes(run):
    rare = ImageLabels(("rare", "common"), (np.arange(IMAGES) > 20).astype(int))
    assert tables_of(run, rare)[0][LABEL_PROBES].empty


def test_images_carry_what_their_tokens_carry(truth):
    labels = TokenLabels(NAMES, truth.reshape(IMAGES, GRID, GRID, LABELS))
    places, carried = carried_by_images(labels, np.arange(10, 30), GRID**2)
    assert places.tolist() == list(range(20))
    np.testing.assert_array_equal(carried.toarray(), (truth[10:30] > 0).any(axis=1))
