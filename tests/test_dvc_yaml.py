"""`dvc.yaml` tells the truth: its code dependencies are what each stage loads, its parameters exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.imports import ROOT, closure, files_below

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PIPELINE = DVC["stages"]
DVC_TEMPLATES = {"bar_horizontal", "scatter"}
# Stages that train, extract or paint: nothing that they do not load may make them run again.
COSTLY = {"extract", "untrained", "train", "controls", "onboarding", "planted", "methods", "maximise"}
MOST_LINES = 300
ANY_METHOD = "usae/methods/${item.method}.py"


def code(name: str) -> set[str]:
    """The code that a stage declares: files, and folders (the rooms). Of the files of methods, all that train."""
    declared = {dep for dep in PIPELINE[name]["deps"] if dep.startswith(("usae/", "pipeline/"))}
    return declared - {ANY_METHOD} | (methods_with("start") if ANY_METHOD in declared else set())


def loaded_by(name: str) -> set[str]:
    """What a stage loads, the methods included that it finds by name."""
    wanted = {"methods": ("start",), "compare": ("start", "fit")}.get(name, ())
    by_name = {file for function in wanted for file in methods_with(function)}
    return closure(f"pipeline/{name}.py").union(*(closure(file) for file in by_name))


def methods_with(function: str) -> set[str]:
    files = (ROOT / "usae/methods").glob("*.py")
    return {str(file.relative_to(ROOT)) for file in files if f"\ndef {function}(" in file.read_text()}


def covers(declared: str, file: str) -> bool:
    return file == declared or file.startswith(f"{declared}/")


@pytest.mark.parametrize("name", PIPELINE)
def test_nothing_that_a_stage_loads_is_missing(name):
    missing = {file for file in loaded_by(name) if not any(covers(dep, file) for dep in code(name))}
    assert not missing


@pytest.mark.parametrize("name", PIPELINE)
def test_nothing_that_a_stage_declares_is_superfluous(name):
    loaded = loaded_by(name)
    assert not {dep for dep in code(name) if not any(covers(dep, file) for file in loaded)}
    assert all((ROOT / dep).exists() for dep in code(name))


@pytest.mark.parametrize("name", PIPELINE)
def test_no_room_is_declared_beside_a_room_inside_it(name):
    assert not {(one, other) for one in code(name) for other in code(name) if one != other and covers(one, other)}


@pytest.mark.parametrize("name", sorted(COSTLY))
def test_what_is_costly_runs_again_only_for_what_it_loads(name):
    loaded = loaded_by(name)
    assert not {file for dep in code(name) for file in files_below(dep)} - loaded
    assert not [file for dep in code(name) for file in (ROOT / dep).rglob("*.safetensors")]


def test_the_file_stays_short():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", PIPELINE)
def test_every_stage_is_described_and_runs_its_script(name):
    stage = PIPELINE[name]
    assert stage["desc"]
    assert stage["cmd"].split()[:3] == ["python", "-m", f"pipeline.{name}"]


@pytest.mark.parametrize("name", PIPELINE)
def test_parameters_exist_and_runtime_is_nobodys(name):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in PIPELINE[name].get("params", []):
        assert not key.startswith("runtime")
        value = params
        for part in key.replace("${item.model}", params["models"][0]).split("."):
            assert part in value, key
            value = value[part]


def test_plots_are_of_columns_that_stages_write_and_templates_that_there_are():
    written = {next(iter(plot)) for stage in PIPELINE.values() for plot in stage.get("plots", [])}
    for plot in (each for each in DVC["plots"] if isinstance(each, dict)):
        ((title, how),) = plot.items()
        ((file, column),) = how["y"].items()
        assert file in written, title
        assert {how["x"], column} <= set((ROOT / file).read_text().split("\n")[0].split(",")), title
        assert how["template"] in DVC_TEMPLATES or (ROOT / f".dvc/plots/{how['template']}.json").is_file(), title


def test_the_report_depends_on_every_table_but_those_of_the_pictures_that_come_after_it():
    after = "maximise"
    tables = {
        out
        for name, stage in PIPELINE.items()
        for out in stage["outs"]
        if out.endswith(".parquet") and name != after
    }
    assert tables <= set(PIPELINE["report"]["deps"])
    assert not set(PIPELINE[after]["outs"]) & set(PIPELINE["report"]["deps"])
    assert list(PIPELINE)[-1] == after  # DVC takes stages that do not wait for each other in this order


def test_stages_with_folders_of_all_models_depend_on_the_list():
    for name, stage in PIPELINE.items():
        if "matrix" not in stage and {"data/manifests", "data/weights"} & set(stage["deps"]):
            assert "models" in stage["params"], name


def test_every_stage_has_a_script_and_every_script_a_stage():
    assert {path.stem for path in Path(ROOT / "pipeline").glob("*.py")} - {"__init__"} == set(PIPELINE)


def test_make_clean_removes_every_output_below_data_and_no_text_of_the_repository(tmp_path):
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    outs = [out for stage in PIPELINE.values() for out in stage["outs"] if out.startswith("data/")]
    made = [tmp_path / re.sub(r"\$\{item\.\w+\}", "one", out) for out in outs]
    for path in [*made, tmp_path / "data/activations", tmp_path / "data/external"]:
        path.mkdir(parents=True)
    kept = tmp_path / "data/methods/README.md"
    kept.write_text("what lies here")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert not [path for path in made if path.exists()]
    left = {path for path in (tmp_path / "data").rglob("*") if not path.is_dir() or not any(path.iterdir())}
    assert left == {kept, tmp_path / "data/external"}
