"""Which file of the repository imports which, read from the text."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Plumbing cannot change a result: it carries parameters (which DVC tracks by value), text, progress and signals.
PLUMBING = (
    "pipeline/__init__.py",
    "usae/__init__.py",
    "usae/common/errors.py",
    "usae/common/layout.py",
    "usae/common/params",
    "usae/common/runtime",
    "usae/common/types.py",
)


def closure(file: str) -> set[str]:
    """Everything in the repository that running `file` loads, itself included; without plumbing and bare faces."""
    waiting, seen = {file}, set()
    while waiting:
        current = waiting.pop()
        seen.add(current)
        waiting |= {each for each in imported(current) if not is_plumbing(each)} - seen
    return {each for each in seen if not is_bare(each)}


def files_below(path: str) -> set[str]:
    """The Python files of a room (or the file itself), without bare faces."""
    home = ROOT / path
    files = home.rglob("*.py") if home.is_dir() else [home]
    return {name for name in (str(each.relative_to(ROOT)) for each in files) if not is_bare(name)}


@cache
def imported(file: str) -> frozenset[str]:
    """The repository's files that `file` imports, also inside functions; packages bring their `__init__`."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in modules]
    files = {module_file(each[: end + 1]) for each in parts for end in range(len(each))}
    return frozenset(name for name in files if name is not None)


def module_file(parts: list[str]) -> str | None:
    """The file of a module of this repository."""
    base = ROOT.joinpath(*parts)
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return str(candidate.relative_to(ROOT))
    return None


def is_plumbing(file: str) -> bool:
    return any(file == each or file.startswith(f"{each}/") for each in PLUMBING)


@cache
def is_bare(file: str) -> bool:
    """A package's face that holds its docstring and nothing else."""
    return file.endswith("__init__.py") and len(ast.parse((ROOT / file).read_text()).body) == 1
