"""What is timed on a GPU can be asked for on a CPU, at small sizes."""

import subprocess
import sys

import pytest
import torch

from benchmarks.gpu import Material, milliseconds, parts
from usae.sae.universal import UniversalSAE
from usae.training.step.products import SparseProducts


def test_every_product_is_timed():
    sae = UniversalSAE({"a": 5, "b": 7}, 60, 3)
    for name, product in parts(SparseProducts(), Material.drawn(8, sae, "cpu")).items():
        assert milliseconds(product, calls=1) > 0, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_runs():
    run = [sys.executable, "-m", "benchmarks.gpu", "--images", "2", "--seconds", "0.1"]
    assert "| kernel |" in subprocess.run(run, check=True, capture_output=True, text=True).stdout
