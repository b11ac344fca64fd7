import math
import time

import numpy as np
import pandas as pd
import pytest

from usae.common.tables import write_table
from usae.training.loop.checkpoints import Checkpoints
from usae.training.loop.log import TrainingLog, write_curve
from usae.training.tables import TRAINING

SOURCES = ("one", "two", "three")


def row(step):
    rng = np.random.default_rng(step)
    return {
        "step": step,
        "epoch": step // 10,
        "source": SOURCES[int(rng.integers(3))],
        "loss": float(rng.normal()),
        "reconstruction": float(rng.normal()) / 3,
        "auxiliary": -0.0,
        "learning_rate": 1e-3 / (step + 1),
        "gradient_norm": math.inf if step == 3 else float(rng.normal()),
        "r2_self": float(rng.normal()) if step % 20 == 0 else math.nan,
        "r2_cross": math.nan,
    }


def test_the_frame_is_that_of_the_rows():
    log = TrainingLog()
    for step in range(50):
        log.append(row(step))
    pd.testing.assert_frame_equal(log.frame(), pd.DataFrame([row(step) for step in range(50)]))
    assert len(log) == 50


def test_a_resumed_run_writes_the_same_bytes(tmp_path):
    through, first, second = TrainingLog(), TrainingLog(), TrainingLog()
    for step in range(200):
        through.append(row(step))
    for step in range(73):
        first.append(row(step))
    checkpoints = Checkpoints(tmp_path / "usae-0123456789ab", {}, 10)
    checkpoints.save({"log": first.state()})
    second.restore(checkpoints.load()["log"])
    for step in range(73, 200):
        second.append(row(step))
    for name, log in (("through", through), ("second", second)):
        write_table(TRAINING, log.frame(), tmp_path / f"{name}.parquet")
        write_curve(log.frame(), tmp_path / f"{name}.csv")
    for suffix in ("parquet", "csv"):
        assert (tmp_path / f"through.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()


def test_an_empty_log_can_be_saved_too():
    log = TrainingLog()
    log.restore(TrainingLog().state())
    log.show()
    assert len(log) == len(log.frame()) == 0
    log.append(row(0))
    assert len(log) == 1


def test_other_columns_and_other_types_are_refused():
    log = TrainingLog()
    log.append({"step": 0, "source": "a", "loss": 1.0})
    with pytest.raises(
        ValueError, match=r"should have the columns \['step', 'source', 'loss'\], found \['step'\]"
    ):
        log.append({"step": 1})
    with pytest.raises(TypeError):
        log.append({"step": 1.5, "source": "a", "loss": 1.0})


def test_the_curve_is_there_while_it_grows(tmp_path):
    path = tmp_path / "plots" / "training.csv"
    log = TrainingLog(path, seconds=3600)
    log.append(row(0))
    assert not path.exists()
    log.next = time.monotonic()
    log.append(row(1))
    assert path.read_text().startswith("step,source,loss\n0,")
    before = path.read_bytes()
    log.append(row(2))
    assert path.read_bytes() == before
    log.show()
    assert len(path.read_text().splitlines()) == 4
    assert [file.name for file in path.parent.iterdir()] == ["training.csv"]


def test_showing_takes_at_most_a_fiftieth_of_the_time():
    log = TrainingLog(seconds=0.0, track=lambda step, values: time.sleep(0.02))
    log.append(row(0))
    assert log.next - time.monotonic() > 40 * 0.02


def test_the_curve_averages_stretches(tmp_path):
    rows = pd.DataFrame({"step": range(6), "source": list("abaaba"), "loss": [1.0, 2.0, 3.0, 5.0, 4.0, 7.0]})
    write_curve(rows, tmp_path / "curve.csv", points=2)
    assert (tmp_path / "curve.csv").read_text() == "step,source,loss\n0,a,2\n0,b,2\n3,a,6\n3,b,4\n"


def test_the_tracker_is_told_means_by_source_once():
    told = []
    log = TrainingLog(track=lambda step, values: told.append((step, dict(values))))
    for step, (source, loss) in enumerate([("a", 1.0), ("b", 5.0), ("a", 2.0)]):
        log.append({"step": step, "source": source, "loss": loss})
    log.show()
    log.show()
    log.append({"step": 3, "source": "b", "loss": 7.0})
    log.show()
    assert told == [(2, {"loss/a": 1.5, "loss/b": 5.0}), (3, {"loss/b": 7.0})]


def test_a_restored_log_tells_only_what_is_new():
    told = []
    log, first = TrainingLog(track=lambda step, values: told.append(step)), TrainingLog()
    first.append({"step": 0, "source": "a", "loss": 1.0})
    log.restore(first.state())
    log.show()
    assert told == []
    log.append({"step": 1, "source": "a", "loss": 1.0})
    log.show()
    assert told == [1]
