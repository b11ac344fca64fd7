import subprocess
import sys

import pytest
import torch

from usae.backbones.networks.timm_import import declare_operators, native_operators, timm

FRESH = """
import torch, usae.backbones.networks.timm_import as imported
if not imported.native_operators():
    print(torch.ops.torchvision.nms.default)
imported.native_operators = lambda: True
before = len(torch._C._dispatch_get_all_op_names())
print(imported.declare_operators(), len(torch._C._dispatch_get_all_op_names()) - before)
"""


@pytest.fixture(scope="module")
def said():
    """What a new process says: the operator, where it was declared; then what is declared beside real ones."""
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")


def test_timm_works():
    assert timm.create_model("vit_tiny_patch16_224", num_classes=0).num_features == 192


def test_the_operators_are_there_one_way_or_the_other():
    assert hasattr(torch.ops.torchvision, "nms")
    assert hasattr(torch.ops.torchvision, "qnms") or native_operators()


def test_nothing_is_declared_when_the_real_operators_load(said):
    assert said[-2:] == ["None 0", ""]


def test_declared_beside_a_torch_without_them(said):
    if native_operators():
        assert declare_operators() is None
    else:
        assert "torchvision::nms" in said[0].replace(".", "::", 1)
