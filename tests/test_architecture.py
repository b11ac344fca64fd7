"""docs/architecture.md holds: wings stand on each other, rooms form no circle, and everything keeps its size."""

import ast
from statistics import quantiles

import pytest

from tests.support.imports import ROOT, imported, is_bare

WINGS = ("common", "images", "sae", "backbones", "activations", "training", "evidence", "methods", "showing")
FILES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "usae").rglob("*.py"))
CODE = FILES + sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pipeline").glob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 300, 50


def wing(file: str) -> str:
    return file.split("/")[1]


def room(file: str) -> str:
    """The folder of a file; one that stands directly in a wing is a room by itself."""
    folder = file.rsplit("/", 1)[0]
    return file if folder.count("/") < 2 else folder


def uses(file: str) -> set[str]:
    inside = {each for each in imported(file) if each.startswith("usae/") and each != "usae/__init__.py"}
    return {each for each in inside if not is_bare(each)}


def test_the_wings_are_few_and_in_the_order_of_the_data():
    folders = {path.name for path in (ROOT / "usae").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(WINGS)
    assert {path.name for path in (ROOT / "usae").glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("file", [file for file in FILES if file.count("/") > 1])
def test_arrows_run_one_way_between_wings(file):
    assert not {each for each in uses(file) if WINGS.index(wing(each)) > WINGS.index(wing(file))}


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """What is left when everything that nothing left points to is taken away, again and again."""
    left = dict(arrows)
    while free := [name for name in left if not any(name in to for other, to in left.items() if other != name)]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_circle_between_files_or_rooms():
    inside = [file for file in FILES if file.count("/") > 1 and not is_bare(file)]
    files = {file: uses(file) - {file} for file in inside}
    rooms: dict[str, set[str]] = {room(file): set() for file in inside}
    for file, others in files.items():
        rooms[room(file)] |= {room(other) for other in others} - {room(file)}
    faces = {file: {other for other in to if not other.endswith("__init__.py")} for file, to in files.items()}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert not circles(faces)
    assert not circles(rooms)


def functions(file: str) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)]


def test_functions_and_files_stay_short():
    lengths = [each.end_lineno - each.lineno + 1 for file in CODE for each in functions(file)]
    tenths = quantiles(lengths, n=10)
    assert tenths[4] <= 8
    assert tenths[8] <= 20
    assert max(lengths) <= LONGEST_FUNCTION
    assert max(len((ROOT / file).read_text().splitlines()) for file in CODE) <= LONGEST_FILE


def test_no_private_name_crosses_files():
    for file in CODE:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], file


def test_classes_have_names_of_their_own():
    names: dict[str, list[str]] = {}
    for file in FILES:
        for node in ast.parse((ROOT / file).read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.setdefault(node.name, []).append(file)
    assert not {name: files for name, files in names.items() if len(files) > 1}
