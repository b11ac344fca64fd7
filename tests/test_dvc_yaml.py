"""`dvc.yaml` tells the truth: its code dependencies are what each stage imports, its parameters exist."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PIPELINE = DVC["stages"]
DVC_TEMPLATES = {"bar_horizontal", "scatter"}
# Plumbing cannot change a result: it carries parameters (which DVC tracks by value), text, progress and signals.
PLUMBING = {
    "pipeline/__init__.py",
    "usae/__init__.py",
    "usae/errors.py",
    "usae/interrupts.py",
    "usae/params.py",
    "usae/progress.py",
    "usae/runtime.py",
    "usae/tracker.py",
    "usae/types.py",
}


def module_file(name: str) -> Path | None:
    """The file of a module of this repository."""
    base = ROOT.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported(file: Path) -> set[Path]:
    """The repository's files that `file` imports, also inside functions; packages bring their `__init__`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            found |= {module_file(".".join(parts[: i + 1])) for i in range(len(parts))}
    return {path for path in found if path is not None}


def closure(file: Path) -> set[str]:
    """Everything in the repository that running `file` loads, itself included, without the plumbing."""
    waiting, seen = {file}, set()
    while waiting:
        current = waiting.pop()
        seen.add(current)
        if str(current.relative_to(ROOT)) not in PLUMBING:
            waiting |= imported(current) - seen
    return {str(path.relative_to(ROOT)) for path in seen} - PLUMBING


def stage_script(name: str) -> Path:
    return ROOT / "pipeline" / f"{name}.py"


@pytest.mark.parametrize("name", PIPELINE)
def test_code_dependencies_are_the_imports(name):
    declared = {dep for dep in PIPELINE[name]["deps"] if dep.endswith(".py")}
    assert declared == closure(stage_script(name))


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


def test_template_of_the_page_is_a_dependency():
    inside = {str(path.relative_to(ROOT)) for path in (ROOT / "usae" / "explorer").iterdir() if path.is_file()}
    data = {path for path in inside if not path.endswith(".py")}
    assert data <= set(PIPELINE["report"]["deps"])


def test_stages_with_folders_of_all_models_depend_on_the_list():
    for name, stage in PIPELINE.items():
        if "matrix" not in stage and {"data/manifests", "data/weights", "data/baselines"} & set(stage["deps"]):
            assert "models" in stage["params"], name
