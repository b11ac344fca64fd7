"""The real thing, small: a git checkout of its own, real `dvc` commands, every stage."""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from usae import UniversalSAE
from usae.common.files.sealed import is_sealed

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
CODE = ("usae", "pipeline", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore")
MODELS = ["one", "two"]
BACKBONE = {
    "timm": "vit_tiny_patch16_224",
    "kwargs": {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0},
    "weights": "random",
}


def small(params: dict) -> dict:
    """The demo's settings at the size of a test: two random networks, forty scenes."""
    params["k"], params["models"] = 3, MODELS
    params["images"] |= {"train": 40, "val": 24}
    params["extract"] |= {"grid": 4, "chunk_images": 16}
    params["train"] |= {"dictionary": 24, "levels": [8], "epochs": 2, "batch_images": 8}
    params["encode"] |= {"train_images": 16}
    params["methods"] |= {"trained": ["sparc"], "fitted": ["linear"], "images": 16, "epochs": None}
    params["planted"] |= {"seeds": 2, "train": 32, "val": 16, "dictionary": 98, "epochs": 1, "permutations": 9}
    params["interventions"] |= {"onboarding_images": [10, 32]}
    params["ood"] |= {"most": 8}
    params["maximise"] |= {"rule": "energy", "concepts": 1, "steps": 2, "crops": 1, "size": 32, "random": 1}
    params["report"] |= {"concepts": 2, "unique": 1, "images": 3, "own_images": 1}
    params["runtime"] |= {"threads": 1}
    params["zoo"] = {
        "one": {"backbone": BACKBONE, "layer": -1, "norm": True},
        "two": {
            "backbone": BACKBONE | {"kwargs": BACKBONE["kwargs"] | {"embed_dim": 32}},
            "layer": -1,
            "norm": True,
        },
    }
    return params


class Checkout:
    """A git repository with DVC in it, and a way to run commands there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        bin_folder = str(Path(sys.executable).parent)
        self.environment = os.environ | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root.parent / "site"),
            **{
                f"GIT_{who}_{what}": "t@example.org"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        for name in ("USAE_STORE", "DVC_ROOT"):
            self.environment.pop(name, None)

    def run(self, *command: str, fails: bool = False) -> str:
        result = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        text = result.stdout + result.stderr
        assert (result.returncode != 0) == fails, text
        return text

    def change(self, change) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        change(params)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def stores(self) -> set[str]:
        return {path.name for path in (self.root / "data" / "activations").iterdir()}


def stages(text: str) -> list[str]:
    """The stages that a `dvc` command ran, in order."""
    return [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipeline") / "checkout"
    root.mkdir()
    for name in CODE:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, root / name)
    checkout = Checkout(root)
    checkout.change(small)
    checkout.run("git", "init", "-q")
    checkout.run("dvc", "init", "-q")
    checkout.run("git", "add", "-A")
    checkout.run("git", "commit", "-qm", "start")
    checkout.first = checkout.run("dvc", "repro")
    checkout.run("git", "add", "-A")
    checkout.run("git", "commit", "-qm", "ran")
    return checkout


def test_one_command_makes_everything(checkout):
    ran = stages(checkout.first)
    assert set(ran) == {
        "images", "train", "controls", "encode", "contrast", "measure", "interventions", "onboarding", "planted",
        "ood", "maximise", "report", "methods@sparc", "compare",
        *(f"{stage}@{model}" for stage in ("weights", "extract", "untrained") for model in MODELS),
    }  # fmt: skip
    assert "<html" in (checkout.root / "reports" / "index.html").read_text()
    maximised = pd.read_parquet(checkout.root / "reports" / "maximisation.parquet")
    assert len(maximised) == 2 * 2 * 2 * 2  # a concept and a direction, starts, models made for, models that look
    kept = {folder.name.split("-")[0] for folder in (checkout.root / "data/activations/training").iterdir()}
    assert kept == {"maximise"}  # its pictures are there for runs that want more of them; no checkpoint is
    r2 = pd.read_parquet(checkout.root / "reports" / "reconstruction.parquet")
    assert set(r2["source"]) == set(r2["target"]) == set(MODELS)
    summary = pd.read_parquet(checkout.root / "reports" / "summary.parquet").set_index("name")["value"]
    metrics = json.loads((checkout.root / "reports" / "metrics.json").read_text())
    assert summary["images"] == 24
    funnel = pd.read_parquet(checkout.root / "reports" / "funnel.parquet")
    again, broken = {"seed-1", "half-1", "half-2"}, {"shuffled", "untrained", "untrained-one", "untrained-two"}
    assert set(funnel["run"]) == {"usae", *again, *broken}
    assert set(funnel["start"]) == {False, True}
    assert pd.read_parquet(checkout.root / "reports" / "concepts.parquet")["stops_at"].notna().all()
    contrast = pd.read_parquet(checkout.root / "reports" / "controls.parquet").query("run == 'usae'")
    for name, value in contrast.set_index("measure")["value"].items():
        assert value == pytest.approx(summary[name], nan_ok=True), name
    assert metrics["r2_self_mean"] == pytest.approx(summary["r2_self_mean"])


def test_every_query_of_the_docs_has_an_answer(checkout, monkeypatch):
    monkeypatch.chdir(checkout.root)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tables.md").read_text(), flags=re.DOTALL)
    names: dict = {}
    for block in map(ast.parse, blocks):
        question = block.body.pop() if isinstance(block.body[-1], ast.Expr) else None
        exec(compile(block, "docs/tables.md", "exec"), names)
        if question is not None:
            answer = eval(compile(ast.Expression(question.value), "docs/tables.md", "eval"), names)
            assert len(answer), ast.unparse(question)
    assert len(blocks) > 15


def test_two_random_networks_are_not_readable_and_nothing_is_counted(checkout):
    reports = checkout.root / "reports"
    verdict = pd.read_parquet(reports / "verdict.parquet").set_index("question")
    assert json.loads((reports / "metrics.json").read_text())["verdict"] == "not readable"
    assert verdict.loc["trained networks", "reason"].startswith("`one` and `two` have random weights")
    assert verdict.loc["different networks", "level"] == "readable"
    assert verdict["asked"].all()
    (said,) = (line for line in checkout.first.splitlines() if line.startswith("pipeline.report:"))
    assert "Not readable: `one` and `two` have random weights" in said
    page = (reports / "index.html").read_text()
    assert page.index("have random weights") < page.index('id="refused"') < page.index('class="tiles"')
    assert 'id="steps"' not in page
    assert "verdict" in checkout.run("dvc", "metrics", "show")


def test_the_universal_sae_is_compared_by_the_numbers_of_stage_contrast(checkout):
    reports = checkout.root / "reports"
    methods = pd.read_parquet(reports / "methods.parquet").query("method == 'usae' and form.isna()")
    assert {"linear", "sparc"} < set(pd.read_parquet(reports / "methods.parquet")["method"])
    whole = methods[methods["target"].isna()].set_index(["run", "measure"])["value"]
    contrast = pd.read_parquet(reports / "controls.parquet").query("run == 'usae'").set_index("measure")
    for name in ("r2_self_mean", "r2_cross_mean", "lift_median", "cofire_proportion_mean", "shared"):
        for run, column in (("run", "value"), ("start", "start")):
            value, expected = whole[run, name], contrast[column][name]
            assert value == expected or (value != value and expected != expected), (run, name)
    concepts = pd.read_parquet(reports / "method_concepts.parquet")
    mine = concepts[(concepts["method"] == "usae") & concepts["form"].isna()]
    theirs = pd.read_parquet(reports / "control_concepts.parquet").query("run in ('usae', 'shuffled')")
    for run, kept in (("run", ("usae", False)), ("start", ("usae", True)), ("shuffled", ("shuffled", False))):
        one = mine[mine["run"] == run].drop(columns=["method", "form", "run"])
        other = theirs[(theirs["run"] == kept[0]) & (theirs["start"] == kept[1])].drop(columns=["run", "start"])
        pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True), check_exact=True)


def test_a_further_method_trains_itself_and_a_reworded_column_runs_its_stage_and_nothing_else(checkout):
    tables = checkout.root / "usae/evidence/ood/tables.py"
    before = tables.read_text()
    tables.write_text(before.replace("mean squared error", "squared error, mean", 1))
    checkout.change(lambda params: params["methods"]["trained"].append("crosscoder"))
    assert sorted(stages(checkout.run("dvc", "repro"))) == ["compare", "methods@crosscoder", "ood", "report"]
    assert "squared error, mean" in (checkout.root / "reports/README.md").read_text()
    tables.write_text(before)
    checkout.change(lambda params: params["methods"].update(trained=[]))
    assert sorted(stages(checkout.run("dvc", "repro"))) == ["compare", "report"]  # the run cache has table ood
    methods = pd.read_parquet(checkout.root / "reports" / "methods.parquet")
    assert set(methods["method"]) == {"usae", "linear"}
    assert "<html" in (checkout.root / "reports" / "methods.html").read_text()
    checkout.run("git", "checkout", "params.yaml", "dvc.lock")
    checkout.run("dvc", "checkout")
    assert stages(checkout.run("dvc", "repro")) == []


def test_the_second_time_there_is_nothing_to_do(checkout):
    again = checkout.run("dvc", "repro")
    assert stages(again) == []
    assert "up to date" in again
    assert "up to date" in checkout.run("dvc", "status")


def test_git_is_clean_after_a_run(checkout):
    assert checkout.run("git", "status", "--porcelain") == ""


def changed(checkout, file: str, old: str, new: str) -> set[str]:
    """The stages that `dvc status` finds changed by an edit of one file, which is taken back."""
    path = checkout.root / file
    before = path.read_bytes() if path.exists() else None
    assert before is None or old.encode() in before, file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(new.encode() if before is None else before.replace(old.encode(), new.encode(), 1))
    try:
        return set(json.loads(checkout.run("dvc", "status", "--json")))
    finally:
        path.unlink() if before is None else path.write_bytes(before)


EDITS = {
    "a column of table ood": ("usae/evidence/ood/tables.py", "mean squared error", "squared error, mean", {"ood"}),
    "a column of table training": ("usae/training/tables.py", "number of the step", "step's number", {"train"}),
    "a figure": ("usae/showing/figures/ood.py", '"""', '"""Drawn: ', {"report"}),
    "the page": ("usae/showing/explorer/web/style.css", ":root", "html", {"report"}),
    "a shipped checkpoint": (
        "usae/backbones/weights/shipped/language.safetensors", "{", " {", {"weights@one", "weights@two"},
    ),
    "a metric": ("usae/evidence/metrics/alignment/buddies.py", '"""', '"""Measured: ', {"measure", "compare"}),
    "a control": ("usae/evidence/controls/variants.py", '"""', '"""Trained: ', {"controls", "contrast"}),
    "a new method": ("usae/methods/another.py", "", '"""Another method."""\n', {"compare"}),
    "a method": ("usae/methods/sparc.py", '"""', '"""Trained: ', {"methods@sparc", "compare"}),
    "a parameter's check": ("usae/common/params/checks.py", '"""', '"""Checked: ', set()),
    "the progress bar": ("usae/common/runtime/progress.py", '"""', '"""Shown: ', set()),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_a_change_touches_only_what_it_can_alter(checkout, what):
    file, old, new, stages_touched = EDITS[what]
    assert changed(checkout, file, old, new) == stages_touched


def test_a_queued_quick_variant_extracts_nothing_starts_at_train_and_calls_nothing_shared(checkout):
    stores = checkout.stores()
    checkout.run("dvc", "exp", "run", "--queue", "-S", "k=4", "-S", "evidence=quick", "-n", "four", "measure")
    text = checkout.run("dvc", "queue", "start", "-j", "1") and checkout.run(
        "dvc", "queue", "logs", "four", "--follow"
    )
    ran = stages(text)
    assert not {stage.split("@")[0] for stage in ran} & {"images", "weights", "extract", "untrained"}
    assert {"train", "encode", "measure"} <= set(ran)
    assert checkout.stores() == stores
    shown = csv.DictReader(checkout.run("dvc", "exp", "show", "--csv").splitlines())
    four = next(row for row in shown if row.get("Experiment") == "four")
    assert float(four["agreed"]) >= 0
    assert np.isfinite(float(four["r2_cross_mean"]))
    assert {four.get(name, "") for name in ("shared", "universal")} <= {"", "-"}


def test_another_layer_re_extracts_that_model_alone_and_back_again_nothing(checkout):
    before = checkout.stores()
    checkout.change(lambda params: params["zoo"]["two"].update(layer=0))
    assert stages(checkout.run("dvc", "repro", "extract")) == ["extract@two"]
    added = checkout.stores() - before
    assert {name.rsplit("-", 1)[0] for name in added} == {"two-train", "two-val"}
    checkout.change(lambda params: params["zoo"]["two"].update(layer=-1))
    assert stages(checkout.run("dvc", "repro", "extract")) == []


def test_models_in_another_order_are_trained_anew_and_one_alone_is_refused(checkout):
    checkout.change(lambda params: params.update(models=["two"]))
    assert "`models` names two alone: nothing can be shared" in checkout.run("dvc", "repro", "train", fails=True)
    checkout.change(lambda params: params.update(models=MODELS[::-1]))
    ran = stages(checkout.run("dvc", "repro", "train"))
    assert ran == ["train"]
    assert UniversalSAE.from_pretrained(checkout.root / "data" / "usae").models == ("two", "one")
    checkout.change(lambda params: params.update(models=MODELS))
    assert stages(checkout.run("dvc", "repro", "train")) == []


def test_a_lost_store_ends_in_the_command_that_brings_it_back(checkout):
    name = next(name for name in checkout.stores() if name.startswith("one-train"))
    shutil.rmtree(checkout.root / "data" / "activations" / name)
    text = checkout.run("dvc", "repro", "-f", "-s", "train", fails=True)
    assert "There is no activation store at" in text
    assert "Run `dvc repro -f -s extract@one` to extract it again, or point" in text
    assert "Traceback" not in text
    assert stages(checkout.run("dvc", "repro", "-f", "-s", "extract@one", "train")) == ["extract@one", "train"]


def test_a_flipped_bit_is_mended_by_the_printed_command_which_computes_nothing_else(checkout):
    manifest = (checkout.root / "data/manifests/one.json").read_bytes()
    store = next((checkout.root / "data/activations").glob("one-train-*"))
    files = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    chunk = store / "c/1/0/0"
    before = chunk.read_bytes()
    chunk.write_bytes(before[:3] + bytes([before[3] ^ 1]) + before[4:])
    text = checkout.run("python", "-m", "usae", "store", "verify", fails=True)
    command = next(line.strip() for line in text.splitlines() if "dvc repro" in line)
    assert command == f"rm {chunk.relative_to(checkout.root)} && dvc repro -f -s extract@one"
    assert stages(checkout.run("bash", "-c", command)) == ["extract@one"]
    assert chunk.read_bytes() == before
    assert is_sealed(chunk)
    assert (checkout.root / "data/manifests/one.json").read_bytes() == manifest
    now = {path for path, stamp in files.items() if path.stat().st_mtime_ns != stamp}
    assert now == {chunk, store / "moments/1.f64"}


def test_dvc_reads_no_store_and_their_root_may_move(checkout, tmp_path):
    root, moved = checkout.root / "data/activations", tmp_path / "moved"
    root.rename(moved)
    assert "up to date" in checkout.run("dvc", "status", "extract")
    assert stages(checkout.run("dvc", "repro", "extract")) == []
    checkout.run("python", "-m", "usae", "store", "verify", fails=True)
    checkout.environment["USAE_STORE"] = str(moved)
    checkout.run("python", "-m", "usae", "store", "verify")
    del checkout.environment["USAE_STORE"]
    checkout.change(lambda params: params["runtime"].update(store=str(moved)))
    checkout.run("python", "-m", "usae", "store", "verify")
    assert "up to date" in checkout.run("dvc", "status", "extract")
    checkout.change(lambda params: params["runtime"].update(store="data/activations"))
    moved.rename(root)


def test_a_misspelt_parameter_stops_before_anything_is_lost(checkout):
    checkout.change(lambda params: params["measure"].update(treshold=0.2))
    text = checkout.run("dvc", "repro", fails=True)
    assert "`measure.treshold` is not a parameter. Did you mean `measure.threshold`?" in text
    assert "Traceback" not in text
    checkout.change(lambda params: params["measure"].pop("treshold"))
    assert stages(checkout.run("dvc", "repro")) == []


def test_commands_say_how_they_are_used(checkout):
    text = checkout.run("python", "-m", "pipeline.extract", fails=True)
    assert text.strip() == "usage: python -m pipeline.extract MODEL"
    text = checkout.run("python", "-m", "pipeline.weights", "three", fails=True)
    assert "'three' has no entry under `zoo` in params.yaml; known: one, two." in text
