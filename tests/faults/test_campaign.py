"""The quick part of `python -m benchmarks.faults`, and that it calls a loss a loss."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults.__main__ import QUICK, table
from benchmarks.faults.campaign import LOST, RAW, SURVIVED, Campaign, Verdict, verdict_of
from benchmarks.faults.damage import DAMAGES, chosen
from benchmarks.faults.disks import can_mount, on_small_disk
from benchmarks.faults.world import Outcome, Stage, digests, make, stages
from usae.common.params import load_params

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_raw_and_nothing_lost():
    """In a process of its own: stages are forked from it, which a process that has computed must not do."""
    command = [sys.executable, "-m", "benchmarks.faults", "--quick", "--faults", "16", "--seeds", "3"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "| all | 16 | 16 | 0 | 0 |" in result.stdout


@pytest.fixture
def campaign(tmp_path):
    """A world whose one stage, which runs nowhere, has written a table."""
    stage = Stage("encode", (), ("data/manifests",), ("reports/a.parquet",))
    (tmp_path / "whole" / "reports").mkdir(parents=True)
    (tmp_path / "whole" / "reports" / "a.parquet").write_bytes(b"right")
    return Campaign(tmp_path, (stage,), {"encode": 1.0})


def test_other_bytes_without_a_word_are_lost(campaign, tmp_path):
    (stage,) = campaign.stages
    (tmp_path / "copy" / "reports").mkdir(parents=True)
    for content, expected in ((b"right", SURVIVED), (b"wrong", LOST)):
        (tmp_path / "copy" / "reports" / "a.parquet").write_bytes(content)
        assert campaign.compared(stage, tmp_path / "copy", set())[0] == expected
    (tmp_path / "copy" / "reports" / "a.parquet").unlink()
    assert campaign.compared(stage, tmp_path / "copy", set()) == (LOST, "other bytes: reports/a.parquet")


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (1, "It is damaged. Run `dvc repro -f -s encode`.", SURVIVED),
        (1, "No room; run the same command again.", SURVIVED),
        (1, "It is damaged.", RAW),
        (1, "Traceback (most recent call last): ... run `dvc repro`", RAW),
        (-11, "", RAW),
    ],
)
def test_a_refusal_is_a_sentence_with_a_command(status, text, expected):
    assert verdict_of(Outcome(status, text, 0.0))[0] == expected


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_changes_files(tmp_path, name):
    folder = tmp_path / "data" / "store" / "c"
    folder.mkdir(parents=True)
    for place, content in enumerate((b"one" * 20, b"two" * 20)):
        (folder / f"{place}.bin").write_bytes(content)
    before = digests(tmp_path, ["data"])
    changed = DAMAGES[name](folder / "0.bin", np.random.default_rng(0))
    after = digests(tmp_path, ["data"])
    names = {str(path.relative_to(tmp_path)) for path in changed}
    assert {file for file, _ in before.items() ^ after.items()} == names


@pytest.mark.skipif(not can_mount(), reason="only root on Linux mounts disks")
def test_a_small_disk_is_full_or_read_only_and_then_gone(tmp_path):
    (tmp_path / "a").write_bytes(b"there")
    with on_small_disk(tmp_path, 8192, read_only=False):
        assert (tmp_path / "a").read_bytes() == b"there"
        (tmp_path / "b").write_bytes(b"x" * 8192)
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "c").write_bytes(b"x" * 8192)
    with on_small_disk(tmp_path, 8192, read_only=True), pytest.raises(OSError, match="Read-only"):
        (tmp_path / "b").write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_kind_of_file_has_its_turn():
    names = [f"data/activations/one-train-01/c/{chunk}/0/0" for chunk in range(90)] + ["data/usae/config.json"]
    drawn = [chosen(names, np.random.default_rng(seed)) for seed in range(40)]
    assert 10 < drawn.count("data/usae/config.json") < 30
    assert chosen([], np.random.default_rng(0)) is None


def test_the_world_is_a_valid_one_and_its_stages_are_those_of_dvc_yaml(tmp_path):
    make(tmp_path / "world")
    assert load_params(tmp_path / "world" / "params.yaml").models == ("one", "two")
    titles = [stage.title for stage in stages(QUICK)]
    assert titles[:5] == ["images", "weights@one", "weights@two", "extract@one", "extract@two"]
    assert all(stage.writes for stage in stages(QUICK))


def test_counts_by_kind():
    text = table([Verdict("kill", "", SURVIVED), Verdict("kill", "", RAW), Verdict("race", "", LOST)])
    assert "| kill | 2 | 1 | 1 | 0 |" in text
    assert text.endswith("| all | 3 | 1 | 1 | 1 |")
