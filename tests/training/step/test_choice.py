"""A run takes the kernels only where they agree with torch."""

import ast
import sys

import pytest
import torch

from tests.support.imports import ROOT
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.step.choice import BOUNDS, disagreement, products_for
from usae.training.step.products import SparseProducts

KERNELS = "usae/training/step/kernels"


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    sae = UniversalSAE({"a": 9, "b": 12}, 30, 2, coarse=(10,))
    return sae, [torch.randn(4, width) for width in sae.widths.values()]


@pytest.fixture
def kernels():
    pytest.importorskip("triton", reason="Triton is not installed")
    from usae.training.step.kernel_products import KernelProducts

    return KernelProducts()


@pytest.mark.parametrize("precision", BOUNDS)
def test_kernels_agree_with_torch(world, kernels, precision):
    sae, tokens = world
    assert disagreement(kernels, sae, tokens, precision) < BOUNDS[precision]


class Wrong(SparseProducts):
    """Torch's, but for one fault."""

    def __init__(self, fault):
        self.fault = fault

    def top_k(self, levels, codes):
        found = levels.top_k(codes)
        if self.fault == "another concept":
            return SparseCodes(found.indices.roll(1, 0), found.values)
        return SparseCodes(found.indices, found.values * 1.0001) if self.fault == "another value" else found

    def keep_largest(self, codes, count):
        return super().keep_largest(codes, count - (self.fault == "one less"))

    def decode(self, codes, dictionary):
        decoded = super().decode(codes, dictionary)
        return (
            decoded * torch.nan if self.fault == "no number" else decoded * (1 + 1e-3 * (self.fault == "scaled"))
        )


@pytest.mark.parametrize("fault", ["another concept", "another value", "one less", "no number", "scaled"])
def test_kernels_that_compute_something_else_are_refused(world, fault):
    sae, tokens = world
    assert disagreement(Wrong(""), sae, tokens, "float32") == 0
    assert not disagreement(Wrong(fault), sae, tokens, "float32") <= BOUNDS["float32"]


def test_a_cpu_has_torch_and_nobody_asks_for_a_batch(world):
    assert type(products_for(world[0], lambda: pytest.fail("asked"), "auto", "float32")) is SparseProducts


def at_once(file):
    """The modules that a file imports outside of functions."""
    body = ast.parse((ROOT / file).read_text()).body
    whole = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    parts = [node for node in body if isinstance(node, ast.ImportFrom)]
    return whole.union(*({node.module, *(f"{node.module}.{a.name}" for a in node.names)} for node in parts))


def names(files):
    return {file.removesuffix(".py").replace("/", ".") for file in files}


def test_nothing_on_a_cpu_loads_triton():
    """Most machines do not have it. What loads it is loaded inside functions alone."""
    loads = {f"{KERNELS}/{name}.py" for name in ("adding", "choosing", "gathering")}
    loads.add("usae/training/step/kernel_products.py")
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "usae").rglob("*.py")}
    by_name = {file for file in files if "triton" in at_once(file)}
    assert by_name | {file for file in files if names(loads) & at_once(file)} == loads


def test_without_triton_a_run_goes_on_by_torch(world, monkeypatch, caplog):
    monkeypatch.setattr(UniversalSAE, "device", torch.device("cuda"))
    monkeypatch.setitem(sys.modules, "triton.errors", None)
    monkeypatch.setitem(sys.modules, "triton", None)
    sae, tokens = world
    assert type(products_for(sae, lambda: tokens, "auto", "float32")) is SparseProducts
    assert "Products with sparse codes are computed by torch: Triton is not here (" in caplog.text


def test_kernels_that_are_far_away_are_named(world, kernels, monkeypatch, caplog):
    monkeypatch.setattr(UniversalSAE, "device", torch.device("cuda"))
    sae, tokens = world
    assert type(products_for(sae, lambda: tokens, "auto", "float32")) is type(kernels)
    monkeypatch.setitem(BOUNDS, "float32", -1.0)
    assert type(products_for(sae, lambda: tokens, "auto", "float32")) is SparseProducts
    assert "are computed by torch: Triton's kernels are" in caplog.text
    assert type(products_for(sae, lambda: tokens, "torch", "float32")) is SparseProducts
