"""`usae store`: what it says, what it removes, and that the commands it prints do mend."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from usae.activations.commands.catalogue import naming, read_manifests
from usae.activations.commands.store import main
from usae.activations.store.manifests import Manifest
from usae.common.files.json_files import read_json, write_json
from usae.common.files.whole import size_text
from usae.training.loop.checkpoints import Checkpoints

ROOT = Path(__file__).parents[3]
NAMES = [f"{model}-{split}-0123456789ab" for model in ("a", "b") for split in ("train", "val")]
OLD = time.time() - 7 * 86400


def flip(path: Path, place: int = 3) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def age(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (OLD, OLD))


@pytest.fixture
def workspace(tmp_path, monkeypatch, make_store):
    """A checkout with two models' stores, all named by manifests, none of them fresh."""
    for name in ("USAE_STORE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "data" / "activations").mkdir(parents=True)
    stores = {}
    for seed, name in enumerate(NAMES):
        activations = np.random.default_rng(seed).normal(size=(10, 4, 5)).astype("float16")
        stores[name] = make_store(f"data/activations/{name}", activations)
    for model in ("a", "b"):
        manifest = Manifest.generated(model, stores[f"{model}-train-0123456789ab"])
        val = Manifest.generated(model, stores[f"{model}-val-0123456789ab"]).val
        dataclasses.replace(manifest, val=val).save(tmp_path / "data" / "manifests" / f"{model}.json")
    for store in stores.values():
        age(store.path)
    return stores


def test_stores_of_untrained_networks_are_named_too(tmp_path, workspace, make_store):
    store = make_store("untrained-a-train-0123456789ab", np.zeros((10, 4, 5), "float16"))
    Manifest.generated("untrained-a", store).save(Path("data/untrained/a.json"))
    found = read_manifests([Path("data/manifests"), Path("data/untrained")])
    assert list(found) == ["a", "b", "untrained-a"]
    assert naming(store.path.name, found) == ("untrained-a",)


def say(capsys, *arguments: str) -> tuple[int, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_list_says_everything_about_each_store(workspace, capsys):
    workspace[NAMES[0]].chunk_path(1).unlink()
    (workspace[NAMES[2]].path / "zarr.json").write_text("{")
    Path("data/manifests/b.json").unlink()
    status, text = say(capsys, "list")
    day = time.strftime("%Y-%m-%d", time.localtime(OLD))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert status == 0
    assert rows[0] == "store model split images size state manifest last used"
    assert rows[1].startswith(f"{NAMES[0]} a train 10")
    assert rows[1].endswith(f"2/3 chunks a {day}")
    assert rows[2].startswith(f"{NAMES[1]} a val 10")
    assert rows[2].endswith(f"complete a {day}")
    assert rows[3].startswith(f"{NAMES[2]} b train ?")
    assert rows[3].endswith(f"unreadable none {day}")
    assert rows[5].startswith("4 stores, ")
    assert rows[5].endswith(" below data/activations")


def test_list_of_nothing(workspace, capsys, monkeypatch):
    monkeypatch.setenv("USAE_STORE", "elsewhere")
    assert say(capsys, "list") == (0, "There are no activation stores below elsewhere.\n")


def test_sound_stores_pass(workspace, capsys):
    status, text = say(capsys, "verify")
    assert status == 0
    assert text.splitlines() == [f"{Path('data/activations') / name}: sound" for name in NAMES]
    assert say(capsys, "verify", "--quick")[1].count(": whole") == 4


def test_verify_lists_all_faults_each_with_its_command(workspace, capsys):
    first, second = workspace[NAMES[0]], workspace[NAMES[3]]
    flip(first.chunk_path(0))
    first.chunk_path(1).write_bytes(first.chunk_path(1).read_bytes()[:-1])
    flip(first.moments_path(2))
    second.chunk_path(2).unlink()
    shutil.rmtree(workspace[NAMES[1]].path)
    status, text = say(capsys, "verify")
    root = Path("data/activations")
    paths = [root / first.chunk_path(0).relative_to(Path.cwd() / root), root / NAMES[0] / "c" / "1" / "0" / "0"]
    moments = root / NAMES[0] / "moments" / "2.f64"
    assert status == 1
    assert text.splitlines() == [
        f"{root / NAMES[0]}: 3 faults",
        f"  - Chunk 0 ({paths[0]}) does not match its checksum.",
        f"    rm {paths[0]} && dvc repro -f -s extract@a",
        f"  - Chunk 1 ({paths[1]}) should have 164 bytes, found 163 bytes.",
        f"    rm {paths[1]} && dvc repro -f -s extract@a",
        f"  - The file of chunk 2's moments ({moments}) does not match its checksum, or is another chunk's.",
        f"    rm {moments} && dvc repro -f -s extract@a",
        f"{root / NAMES[1]}: 1 fault",
        f"  - There is no activation store at {root / NAMES[1]}.",
        "    dvc repro -f -s extract@a",
        f"{root / NAMES[2]}: sound",
        f"{root / NAMES[3]}: 1 fault",
        f"  - Chunk 2 ({root / NAMES[3] / 'c' / '2' / '0' / '0'}) should have 164 bytes, found no file.",
        "    dvc repro -f -s extract@b",
    ]
    assert say(capsys, "verify", "--quick", str(root / NAMES[0]))[1].count("  - ") == 1


def test_repair_removes_what_is_damaged_and_nothing_else(workspace, capsys):
    store = workspace[NAMES[0]]
    flip(store.chunk_path(0))
    flip(store.chunk_path(2), -1)
    status, text = say(capsys, "verify", "--repair")
    assert status == 1
    assert text.endswith("Removed 2 damaged files.\nNow run:\n  dvc repro -f -s extract@a\n")
    assert [store.done(j) for j in range(3)] == [False, True, False]
    assert say(capsys, "verify", NAMES[0])[0] == 1


def test_broken_metadata_is_a_fault_like_others(workspace, capsys):
    file = Path("data/activations") / NAMES[0] / "zarr.json"
    file.write_bytes(file.read_bytes()[:40])
    status, text = say(capsys, "verify", "--repair")
    assert status == 1
    assert f"rm {file} && dvc repro -f -s extract@a" in text
    assert not file.exists()


def test_a_whole_store_that_the_manifest_does_not_describe(workspace, capsys):
    store = workspace[NAMES[0]]
    store.write(1, np.zeros((4, 4, 5), "float16"))
    status, text = say(capsys, "verify", str(Path("data/activations") / NAMES[0]))
    assert status == 1
    assert "Chunk 1 has checksum" in text
    assert f"rm {Path('data/activations') / NAMES[0]}/c/1/0/0 && dvc repro -f -s extract@a\n" in text


def test_chunks_that_are_whole_but_swapped_are_removed(workspace, capsys):
    """Each has a sound checksum of its own; together with other models' they would be pairs of other images."""
    store = workspace[NAMES[0]]
    first, second = store.chunk_path(0).read_bytes(), store.chunk_path(1).read_bytes()
    store.chunk_path(0).write_bytes(second), store.chunk_path(1).write_bytes(first)
    status, text = say(capsys, "verify", "--repair")
    assert status == 1
    assert "Removed 2 damaged files." in text
    assert [store.done(j) for j in range(3)] == [False, False, True]


@pytest.mark.parametrize("name", ["../victim", "..", "/victim", "a/b", ""])
def test_repair_never_leaves_the_root(workspace, capsys, tmp_path, name):
    """A manifest may come from elsewhere (`dvc pull`)."""
    victim = Path("data/victim")
    victim.mkdir()
    (victim / "zarr.json").write_text("not ours")
    file = Path("data/manifests/a.json")
    said = read_json(file)
    write_json(file, {**said, "train": {**said["train"], "store": name}})
    status, text = say(capsys, "verify", "--quick", "--repair")
    assert status == 1
    assert f"not a whole manifest of this version ('{name}' should be the name of a store, found a path)" in text
    assert (victim / "zarr.json").read_text() == "not ours"


def test_a_store_that_no_manifest_names_is_verified_by_itself(workspace, capsys):
    Path("data/manifests/a.json").unlink()
    path = str(Path("data/activations") / NAMES[0])
    assert say(capsys, "verify", path) == (0, f"{path}: sound\n")
    flip(workspace[NAMES[0]].chunk_path(0))
    status, text = say(capsys, "verify", path)
    assert status == 1
    assert "(No manifest names this store. The command extracts what params.yaml says now for 'a'" in text


def test_verify_without_manifests_or_paths(workspace, capsys):
    shutil.rmtree("data/manifests")
    status, text = say(capsys, "verify")
    assert status == 1
    assert "There is no manifest in data/manifests. Run `dvc repro extract`" in text


def test_gc_shows_first_and_removes_on_request_only_what_nobody_names(workspace, capsys):
    Path("data/manifests/b.json").unlink()
    other = Path("data/activations/notes")
    other.mkdir()
    status, text = say(capsys, "gc")
    assert status == 0
    assert text.startswith("Only the manifests now in data/manifests and data/untrained count. Those of")
    assert NAMES[2] in text
    assert NAMES[3] in text
    assert NAMES[0] not in text
    assert "Nothing was removed; do it with: usae store gc --remove" in text
    assert workspace[NAMES[2]].path.is_dir()
    status, text = say(capsys, "gc", "--remove")
    assert status == 0
    assert "Removed 2 stores, " in text
    assert sorted(path.name for path in Path("data/activations").iterdir()) == [*NAMES[:2], "notes"]
    assert "Nothing to remove below data/activations." in say(capsys, "gc", "--remove")[1]


def test_gc_keeps_both_halves_of_a_running_extraction(workspace, capsys):
    Path("data/manifests/b.json").unlink()
    os.utime(workspace[NAMES[3]].chunk_path(0))
    status, text = say(capsys, "gc", "--remove")
    assert status == 0
    assert f"kept {NAMES[2]}: 'b' was written to within the hour: extraction may be running" in text
    assert f"kept {NAMES[3]}" in text
    assert workspace[NAMES[2]].path.is_dir()


def test_gc_does_not_follow_links(workspace, capsys):
    Path("data/manifests/b.json").unlink()
    path = workspace[NAMES[2]].path
    path.rename("far")
    path.symlink_to(Path("far").absolute())
    assert f"kept {NAMES[2]}: it is a link" in say(capsys, "gc", "--remove")[1]
    assert (Path("far") / "zarr.json").is_file()


def test_gc_without_any_manifest_removes_nothing(workspace, capsys):
    shutil.rmtree("data/manifests")
    status, text = say(capsys, "gc", "--remove")
    assert status == 1
    assert "Nothing was removed: there is no manifest in data/manifests" in text
    assert all(store.path.is_dir() for store in workspace.values())


def test_outside_a_checkout(tmp_path, monkeypatch):
    result = subprocess.run(
        [sys.executable, "-m", "usae", "store", "list"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "The settings file 'params.yaml' does not exist here" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def unfinished(workspace):
    """A training run that stopped a week ago, and one that goes on."""
    folders = [Path("data/activations/training") / f"{name}-0123456789ab" for name in ("usae", "independent-a")]
    for folder in folders:
        Checkpoints(folder, {}, 10).save({"step": 1})
    age(folders[0])
    return folders


def test_list_shows_unfinished_training(unfinished, capsys):
    status, text = say(capsys, "list")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    start = rows.index("unfinished run kept last saved")
    saved = [time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime)) for folder in unfinished]
    size = size_text((unfinished[0] / "000001.state").stat().st_size)
    assert status == 0
    assert rows[5].startswith("4 stores, ")
    assert rows[start + 1] == f"independent-a-0123456789ab {size} {saved[1]}"
    assert rows[start + 2] == f"usae-0123456789ab {size} {time.strftime('%Y-%m-%d %H:%M', time.localtime(OLD))}"


def test_gc_removes_unfinished_training_that_does_not_go_on(unfinished, capsys):
    status, text = say(capsys, "gc")
    assert status == 0
    assert "usae-0123456789ab" in text
    assert "A run starts from the beginning when what it has kept is removed." in text
    assert "\n1 unfinished run, " in text
    assert f"kept {unfinished[1].name}: it was written to a short while ago; the run may be going on" in text
    assert unfinished[0].is_dir()
    Path("data/manifests/b.json").unlink()
    status, text = say(capsys, "gc", "--remove")
    assert status == 0
    assert "Removed 2 stores and 1 unfinished run, " in text
    assert [folder.is_dir() for folder in unfinished] == [False, True]
    assert sorted(path.name for path in Path("data/activations").iterdir()) == [*NAMES[:2], "training"]


def test_gc_waits_for_two_checkpoints(unfinished, capsys):
    def minutes(value):
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["runtime"]["checkpoint_minutes"] = value
        Path("params.yaml").write_text(yaml.safe_dump(params))

    minutes(8 * 24 * 60 / 2)
    assert "Nothing to remove" in say(capsys, "gc", "--remove")[1]
    minutes(6 * 24 * 60 / 2)
    assert "Removed 1 unfinished run, " in say(capsys, "gc", "--remove")[1]


def test_gc_of_training_needs_no_manifest_and_follows_no_link(unfinished, capsys):
    shutil.rmtree("data/manifests")
    for name in NAMES:
        shutil.rmtree(Path("data/activations") / name)
    unfinished[1].rename("far")
    unfinished[1].symlink_to(Path("far").absolute())
    (unfinished[0].parent / "notes").mkdir()
    status, text = say(capsys, "gc", "--remove")
    assert status == 0
    assert "Removed 1 unfinished run, " in text
    assert (Path("far") / "000001.state").is_file()
    assert sorted(path.name for path in unfinished[0].parent.iterdir()) == [unfinished[1].name, "notes"]


def test_verify_does_not_take_checkpoints_for_stores(unfinished, capsys):
    status, text = say(capsys, "verify")
    assert status == 0
    assert text.splitlines() == [f"{Path('data/activations') / name}: sound" for name in NAMES]
