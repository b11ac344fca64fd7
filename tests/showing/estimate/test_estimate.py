"""`usae estimate` as a user calls it: two small runs of all stages are timed, and nothing stays behind."""

import re

import pytest
import yaml

from tests.conftest import ROOT
from usae.showing.commands import estimate
from usae.showing.estimate.estimate import duration

NETWORK = {"backbone": {"timm": "test_resnet", "weights": "random", "size": 64}, "layer": -1, "norm": True}
LARGER = {**NETWORK, "backbone": {**NETWORK["backbone"], "size": 96}}


@pytest.fixture
def small(raw_params, tmp_path, monkeypatch) -> dict:
    """Two networks with random weights, and images that are not here yet."""
    for name in ("presets", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USAE_STORE", raising=False)
    raw = {**raw_params, "models": ["one", "other"]}
    raw["images"] = {**raw["images"], "source": "folder", "path": "nowhere"}
    raw["extract"] = {**raw["extract"], "grid": 4}
    raw["train"] = {**raw["train"], "dictionary": 32, "levels": [8], "batch_images": 32, "epochs": 2}
    raw["measure"] = {**raw["measure"], "permutations": 3}
    raw["planted"] = {**raw["planted"], "train": 64, "val": 64, "epochs": 1, "permutations": 3, "seeds": 2}
    raw["report"] = {**raw["report"], "concepts": 2, "unique": 1, "images": 3, "own_images": 1}
    raw["maximise"] = {**raw["maximise"], "concepts": 1, "starts": 1, "steps": 8}
    raw["zoo"] = {"one": NETWORK, "other": LARGER}
    return raw


def said(raw, tmp_path, capsys, *arguments):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    status = estimate.main(list(arguments))
    return status, capsys.readouterr()


@pytest.mark.slow
def test_every_stage_has_a_line_and_nothing_stays(small, tmp_path, capsys):
    status, text = said(small, tmp_path, capsys, "--train", "1024", "--val", "100")
    assert status == 0, text.err
    rows = {line.split()[0]: line for line in text.out.splitlines() if re.search(r"  \d.* s|  \d.* min", line)}
    assert list(rows) == [
        "images", "weights@one", "weights@other", "extract@one", "extract@other", "untrained@one",
        "untrained@other", "train", "controls", "encode", "contrast", "planted", "measure", "ood", "interventions",
        "onboarding", "methods@crosscoder", "compare", "report", "maximise", "total",
    ]  # fmt: skip
    assert "+ 64 SAE steps, " in rows["train"]
    for stage in ("extract@one", "extract@other", "untrained@other"):
        assert "+ 1124 images, " in rows[stage]
    assert "s of SAE steps" in rows["onboarding"]
    assert text.out.endswith("It fits.\n")
    assert list((tmp_path / "data/activations").iterdir()) == []


def test_a_stage_that_fails_says_why(small, tmp_path, capsys):
    small["zoo"]["other"] = {**NETWORK, "layer": 99}
    status, text = said(small, tmp_path, capsys, "--train", "1000", "--val", "100")
    assert status == 1
    assert "A small run of the stages fails:" in text.err
    assert "99" in text.err


def test_who_has_no_images_yet_says_how_many_there_will_be(small, tmp_path, capsys):
    status, text = said(small, tmp_path, capsys)
    assert status == 1
    assert "Or say how many there will be: --train N --val N." in text.err


def test_durations():
    assert [duration(each) for each in (0.04, 12, 100, 7200)] == ["0.0 s", "12 s", "1.7 min", "2.0 h"]
