"""What a stage lacks is named, with the stage that makes it; `report` draws nothing then."""

import shutil

import pytest
import yaml

from pipeline import report
from tests.support.imports import ROOT
from usae.common.errors import UserError
from usae.showing.results.inputs import check_inputs

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MADE = {out: name for name, stage in STAGES.items() for out in stage["outs"] if out in STAGES["report"]["deps"]}


@pytest.fixture
def checkout(tmp_path):
    """A folder in which everything lies that other stages make for the report, all of it empty."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for path in MADE:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def test_every_table_is_needed_and_named_with_the_stage_that_makes_it(checkout):
    check_inputs("report", checkout)
    assert sum(path.endswith(".parquet") for path in MADE) >= 30
    for path, stage in MADE.items():
        (checkout / path).unlink()
        with pytest.raises(UserError, match=rf"  - {path}: `dvc repro {stage}`$"):
            check_inputs("report", checkout)
        (checkout / path).touch()


def test_all_are_named_at_once_by_stage(checkout):
    for name in ("sensitivity", "training", "controls"):
        (checkout / f"reports/{name}.parquet").unlink()
    with pytest.raises(UserError) as caught:
        check_inputs("report", checkout)
    assert str(caught.value).splitlines() == [
        "Stage `report` needs what is not there; run the stages that make it:",
        "  - reports/training.parquet: `dvc repro train`",
        "  - reports/controls.parquet, reports/sensitivity.parquet: `dvc repro contrast`",
    ]


def test_the_report_is_not_drawn_without_a_table(checkout, monkeypatch):
    (checkout / "reports/sensitivity.parquet").unlink()
    monkeypatch.chdir(checkout)
    monkeypatch.setattr("sys.argv", ["report"])
    with pytest.raises(SystemExit, match=r"reports/sensitivity\.parquet: `dvc repro contrast`"):
        report.main()
    assert not list((checkout / "reports").glob("*.html"))
