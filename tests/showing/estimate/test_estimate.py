"""`usae estimate` as a user calls it: pictures, networks and steps are timed, and nothing stays behind."""

import pytest
import yaml

from tests.conftest import ROOT
from usae.showing.commands import estimate
from usae.showing.estimate.estimate import duration

NETWORK = {"backbone": {"timm": "test_resnet", "weights": "random", "size": 64}, "layer": -1, "norm": True}


@pytest.fixture
def small(raw_params, tmp_path, monkeypatch) -> dict:
    """Two networks with random weights, and images that are not here yet."""
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USAE_STORE", raising=False)
    raw = {**raw_params, "models": ["one", "other"]}
    raw["images"] = {**raw["images"], "source": "folder", "path": "nowhere"}
    raw["extract"] = {**raw["extract"], "grid": 4}
    raw["train"] = {**raw["train"], "dictionary": 32, "levels": [8], "batch_images": 8}
    raw["measure"] = {**raw["measure"], "permutations": 3}
    raw["zoo"] = {"one": NETWORK, "other": {**NETWORK, "layer": 2}}
    return raw


def said(raw, tmp_path, capsys, *arguments):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    status = estimate.main(list(arguments))
    return status, capsys.readouterr()


def test_every_stage_has_a_line_and_nothing_stays(small, tmp_path, capsys):
    status, text = said(small, tmp_path, capsys, "--train", "1000", "--val", "100")
    assert status == 0, text.err
    names = [line.split()[0] for line in text.out.splitlines()]
    assert names[:11] == [
        "images", "extract@one", "extract@other", "untrained@one", "untrained@other", "train", "controls",
        "onboarding", "methods@crosscoder", "encode", "contrast",
    ]  # fmt: skip
    assert "1 SAE, 750 steps" in text.out
    assert text.out.endswith("It fits.\n")
    assert list((tmp_path / "data/activations").iterdir()) == []


def test_who_has_no_images_yet_says_how_many_there_will_be(small, tmp_path, capsys):
    status, text = said(small, tmp_path, capsys)
    assert status == 1
    assert "Or say how many there will be: --train N --val N." in text.err


def test_durations():
    assert [duration(each) for each in (0.04, 12, 100, 7200)] == ["0.0 s", "12 s", "1.7 min", "2.0 h"]
