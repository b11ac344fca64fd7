"""`runtime.dask`: the same bytes from worker processes as from this one, also when one of them is killed."""

import dataclasses
import json
import operator
import os
import signal
import threading
import time

import dask
import numpy as np
import pandas as pd
import pytest
import torch
from distributed import Client, LocalCluster
from PIL import Image

from tests.support.worlds import store_at
from usae.activations.extraction.extract import extract
from usae.activations.extraction.extractor import Extraction
from usae.backbones.networks.backbone import pin
from usae.backbones.networks.building import build
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ImagesParams, MeasureParams
from usae.common.runtime import cluster
from usae.evidence.codes.encoding import encode_split
from usae.evidence.codes.store import CodeStore, aligned_chunks, open_codes
from usae.evidence.estimators import Saved
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.labels.labels import TokenLabels
from usae.evidence.metrics.measure.counting import blocks, concept_statistics
from usae.evidence.metrics.measure.nulls_tables import nulls_frame
from usae.evidence.metrics.reconstruction import passes
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.images.sources.writing import write_images
from usae.sae.universal import UniversalSAE

TINY = BackboneParams(
    timm="vit_tiny_patch16_224",
    kwargs={"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0},
    weights="random",
)


@pytest.fixture
def extraction(params, tmp_path, monkeypatch):
    """A tiny random transformer over sixty pictures, two images a chunk; resampled, so that no file lacks."""
    monkeypatch.delenv("USAE_STORE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "pictures").mkdir()
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:02d}.png")
    images = ImagesParams(source="folder", path=str(tmp_path / "pictures"), train=None, val=None, val_share=0.1)
    write_images(tmp_path / "images", images, seed=0, workers=1)
    torch.manual_seed(0)
    pin(TINY, tmp_path / "w", build(TINY))
    return Extraction(
        model="m",
        weights=tmp_path / "w",
        layer=-1,
        norm=True,
        images=tmp_path / "images",
        root=images.path,
        params=params.extract.model_copy(update={"grid": 3, "chunk_images": 2}),
        runtime=params.runtime.model_copy(update={"threads": 1, "store": str(tmp_path / "here")}),
    )


def elsewhere(extraction, where, store):
    runtime = extraction.runtime.model_copy(update={"dask": where, "store": str(extraction.images.parent / store)})
    return dataclasses.replace(extraction, runtime=runtime)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def kill_midway(folder, pid, wanted, seen):
    """Kill a process as soon as the first chunk is there; notes how many were."""
    while not (done := len(list(folder.glob("*/c/*/0/0")))):
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    seen.append(done)
    assert done < wanted


@pytest.fixture(scope="module")
def workers():
    """The address of a cluster of two worker processes, which give a killed one up after 3 s, not 30."""
    options = {
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
        "memory_limit": None,
        "silence_logs": 50,
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
    ):
        patch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "3s")
        with LocalCluster(n_workers=2, processes=True, **options) as running:
            yield running.scheduler_address


def test_two_workers_one_of_them_killed_give_the_same_bytes(extraction, workers, tmp_path):
    many = extraction.params.model_copy(
        update={"chunk_images": 1}
    )  # so that the work outlasts the look for the first
    extraction = dataclasses.replace(extraction, params=many)
    here = extract(extraction)
    with Client(workers) as client:
        pid = sorted(client.run(os.getpid).values())[0]
    seen = []
    killer = threading.Thread(target=kill_midway, args=(tmp_path / "there", pid, 60, seen))
    killer.start()
    there = extract(elsewhere(extraction, workers, "there"))
    killer.join()
    assert 0 < seen[0] < 54
    assert there == here
    # what the killed worker was writing stays as a partial file until the next start sweeps it away
    assert extract(elsewhere(extraction, workers, "there")) == here
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_layers_and_networks_in_one_pass_of_the_workers_give_the_same_bytes(extraction, workers, tmp_path):
    early, other = (dataclasses.replace(extraction, model=name) for name in ("early", "other"))
    torch.manual_seed(1)
    pin(TINY, tmp_path / "other-weights", build(TINY))
    runtime = extraction.runtime.model_copy(update={"one_pass": "models"})
    models = [extraction, dataclasses.replace(early, layer=0)]
    models.append(dataclasses.replace(other, weights=tmp_path / "other-weights", runtime=runtime))
    here = [extract(each) for each in models]
    there = [elsewhere(each, workers, "there") for each in models]
    first = extract(there[0], there[1:])
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "there").rglob("0")}
    assert [first, *map(extract, there[1:])] == here
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "there").rglob("0")} == stamps
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_results_come_in_the_order_of_the_tasks_whoever_finishes_first(workers):
    with cluster.workers(workers) as elsewhere:
        late = elsewhere.in_order(lambda number: (time.sleep(0.5 * (number == 7)), number)[1], [7, 3, 5])
        assert list(late) == [7, 3, 5]


def test_only_a_few_results_wait_for_their_turn(workers):
    """Two threads have three tasks each in hand, however many there are."""
    begun = []
    with cluster.workers(workers) as elsewhere:
        results = elsewhere.in_order(operator.neg, (begun.append(number) or number for number in range(100)))
        assert [next(results), next(results)] == [0, -1]
        assert len(begun) == 2 * cluster.AHEAD + 2
        assert list(results) == [-number for number in range(2, 100)]


def test_a_killed_workers_task_is_done_again_and_keeps_its_turn(workers, tmp_path):
    def dies_once(number, marker=tmp_path / "died"):
        if number == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return -number

    with cluster.workers(workers) as elsewhere:
        assert list(elsewhere.in_order(dies_once, range(9))) == [-number for number in range(9)]
    assert (tmp_path / "died").exists()


def test_a_task_fails_in_order_in_the_words_of_its_error(workers):
    with cluster.workers(workers) as elsewhere:
        results = elsewhere.in_order(operator.index, [1, "two", 3])
        assert next(results) == 1
        with pytest.raises(TypeError, match="'str' object cannot be interpreted as an integer"):
            next(results)


def test_concepts_counted_by_workers_are_the_same_to_the_last_bit(workers, tmp_path):
    rng, models = np.random.default_rng(0), ("a", "b", "c")
    for model in models:
        store = CodeStore.create(
            tmp_path / model, model=model, sae="usae", images=50, grid=3, k=4, concepts=20, chunk_images=4
        )
        for chunk in range(store.chunks):
            shape = (min(4, 50 - 4 * chunk), 9, 20)
            store.write(chunk, rng.random(shape).argsort(-1)[..., :4], rng.gamma(1, 1, (*shape[:2], 4)))
    codes = open_codes(tmp_path, models)
    labels = TokenLabels(("x", "y"), rng.integers(0, 256, (50, 3, 3, 2), dtype=np.uint8))
    asked = MeasureParams(threshold=0.1, agreement=0.1, exemplars=3, permutations=9)
    inputs = (codes, labels, asked, 0, np.arange(50) % 2)
    split = {"ends": (6, 20), "block_images": 12}
    here = concept_statistics(*inputs, **split)
    with cluster.workers(workers) as elsewhere:
        there = concept_statistics(*inputs, workers=elsewhere, **split)
    assert len(blocks(codes["a"], 12)) == 5
    for name in ("fires", "active", "sums", "maxima"):
        assert getattr(there.firing, name).tobytes() == getattr(here.firing, name).tobytes()
    levels = [found.refinement.columns(found.firing) for found in (here, there)]
    pd.testing.assert_frame_equal(*levels, check_exact=True)
    np.testing.assert_array_equal(there.exemplars.keys, here.exemplars.keys)
    top_labels = [found.labels.top_labels() for found in (here, there)]
    pd.testing.assert_frame_equal(*top_labels, check_exact=True)
    tables = [nulls_frame(found.firing, found.nulls, models) for found in (here, there)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    whole = FiringCounts(3, 20, 0.1)
    for chunks in aligned_chunks(codes):
        whole.update(chunks)
    np.testing.assert_array_equal(there.firing.patterns.rows, whole.patterns.rows)
    np.testing.assert_allclose(there.firing.sums, whole.sums, rtol=1e-12)


@pytest.fixture
def decoded_world(tmp_path, monkeypatch):
    """A universal SAE of three models, its codes and activations of 50 images, twelve a task."""
    rng, widths = np.random.default_rng(0), {"a": 5, "b": 7, "c": 6}
    torch.manual_seed(0)
    sae = UniversalSAE(widths, 20, 4).eval()
    sae.save_pretrained(tmp_path / "sae")
    activations = {
        model: store_at(tmp_path / f"activations-{model}", rng.normal(size=(50, 9, width)).astype("float16"), 8)
        for model, width in widths.items()
    }
    for model, store in activations.items():
        encode_split(sae, model, store, tmp_path / "codes" / model, "usae", None, torch.device("cpu"), 4)
    monkeypatch.setattr(passes, "TASK_IMAGES", 12)
    monkeypatch.setattr(passes, "TASK_BLOCKS", 2)
    return sae, open_codes(tmp_path / "codes", tuple(widths)), activations


def test_codes_decoded_by_workers_leave_the_same_sums_to_the_last_bit(decoded_world, workers, tmp_path):
    sae, codes, activations = decoded_world
    split = {"name": "usae", "split": "val"}
    here = passes.reconstruction(sae, codes, activations, **split)
    with cluster.workers(workers) as elsewhere:
        spread = passes.Spread(elsewhere, Saved(tmp_path / "sae", sae.device))
        there = passes.reconstruction(sae, codes, activations, **split, spread=spread)
    assert len(passes.chunk_runs(codes["a"])) == 5
    assert there.rows("abc") == here.rows("abc")
    for target, moments in here.moments.items():
        assert there.moments[target].m2.tobytes() == moments.m2.tobytes()
    whole = Reconstruction("usae", "val")
    for chunks in aligned_chunks(codes):
        for target, store in activations.items():
            truth = passes.standardised(sae, target, store, chunks[0].images)
            whole.update(target, truth, passes.decoded(sae, target, dict(zip(codes, chunks, strict=True))))
    pd.testing.assert_frame_equal(pd.DataFrame(here.rows("abc")), pd.DataFrame(whole.rows("abc")), rtol=1e-12)


def test_linear_maps_from_sums_of_workers_are_the_same_to_the_last_bit(decoded_world, workers, tmp_path):
    sae, _, activations = decoded_world
    here = passes.training_products(sae, activations, 50)
    ceilings = passes.linear_ceilings(sae, activations, activations, 50)
    with cluster.workers(workers) as elsewhere:
        spread = passes.Spread(elsewhere, Saved(tmp_path / "sae", sae.device))
        there = passes.training_products(sae, activations, 50, spread)
        assert passes.linear_ceilings(sae, activations, activations, 50, spread) == ceilings
    for one, other in zip(here, there, strict=True):
        assert one.count == other.count
        assert one.total.tobytes() == other.total.tobytes()
        assert one.products.tobytes() == other.products.tobytes()
    tokens = [
        passes.standardised(sae, model, store, np.arange(50)).reshape(450, -1)
        for model, store in activations.items()
    ]
    rows = np.concatenate(tokens, axis=1) - here[0].origin
    both = here[0].merged(here[1])
    np.testing.assert_allclose(both.products, rows.T @ rows, rtol=1e-5, atol=1e-3)
    assert both.count == len(rows) == 450


def test_faults_of_the_activations_come_from_the_workers_in_the_same_words(extraction, workers, tmp_path):
    network = build(TINY)
    torch.nn.init.constant_(network.norm.bias, float("nan"))
    pin(TINY, tmp_path / "faulty", network)
    faulty = dataclasses.replace(extraction, weights=tmp_path / "faulty")
    with pytest.raises(
        UserError, match=r"'m' gives activations up to nan for train image \d+ .*\n.*written and stay"
    ):
        extract(elsewhere(faulty, workers, "faulty-there"))


def test_a_scheduler_file_leads_to_the_same_cluster(workers, tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": workers}))
    with cluster.connect(str(file)) as client:
        assert client.scheduler.address == workers


def test_local_workers_compute_and_stop():
    with cluster.connect("local:1") as client:
        assert len(client.scheduler_info()["workers"]) == 1
        assert sorted(cluster.compute(client, operator.neg, [1, 2, 3])) == [(1, -1), (2, -2), (3, -3)]


def test_a_task_that_kills_its_workers_is_reported():
    fault = "Several workers died one after another on the same task"
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster.connect("local:1") as client,
        pytest.raises(UserError, match=fault),
    ):
        list(cluster.compute(client, os._exit, [1]))


def enter(where):
    with cluster.connect(where):
        pass


@pytest.mark.parametrize("where", ["local:", "local:0", "local:two"])
def test_local_wants_a_number(where):
    with pytest.raises(UserError, match="expected local:N with at least one worker"):
        enter(where)


def test_an_unknown_place_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="which is no file here .* Expected null .*, local:N") as error:
        enter(str(tmp_path / "none.json"))
    assert "tcp://HOST:PORT" in str(error.value)


def test_nobody_at_the_address_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with pytest.raises(UserError, match="No dask scheduler answers at 'tcp://127.0.0.1:9'"):
        enter("tcp://127.0.0.1:9")


def test_a_cluster_without_workers_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp") as empty,
        pytest.raises(UserError, match="has no worker. Start some"),
    ):
        enter(empty.scheduler_address)


def test_local_workers_share_the_cores(params):
    local = params.runtime.model_copy(update={"dask": "local:1000"})
    assert cluster.worker_runtime(local).threads == 1
    assert cluster.worker_runtime(local.model_copy(update={"threads": 3})).threads == 3
    assert cluster.worker_runtime(local.model_copy(update={"dask": "tcp://host:1"})).threads is None
