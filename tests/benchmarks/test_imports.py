"""Benchmarks run by hand, long after what they import has changed its name."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = [*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("*/*.py")]
MODULES = sorted(".".join(path.relative_to(BENCHMARKS).with_suffix("").parts) for path in FILES)


@pytest.mark.parametrize("name", MODULES)
def test_every_benchmark_finds_what_it_imports(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert "python -m benchmarks." in (module.__doc__ or "") or not hasattr(module, "main")


def test_all_of_them_were_found():
    assert "repaired" in MODULES
