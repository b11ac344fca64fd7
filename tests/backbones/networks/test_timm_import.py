import subprocess
import sys

import torch

from usae.backbones.networks.timm_import import declare_operators, native_operators, timm


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_timm_works():
    assert timm.create_model("vit_tiny_patch16_224", num_classes=0).num_features == 192


def test_the_operators_are_there_one_way_or_the_other():
    assert hasattr(torch.ops.torchvision, "nms")
    assert hasattr(torch.ops.torchvision, "qnms") or native_operators()


def test_nothing_is_declared_when_the_real_operators_load():
    code = (
        "import torch, usae.backbones.networks.timm_import as c; c.native_operators = lambda: True;"
        "before = len(torch._C._dispatch_get_all_op_names()); print(c.declare_operators(), "
        "len(torch._C._dispatch_get_all_op_names()) - before)"
    )
    assert fresh(code) == "None 0"


def test_declared_beside_a_torch_without_them():
    if native_operators():
        assert declare_operators() is None
    else:
        assert "torchvision::nms" in fresh(
            "import usae.backbones.networks.timm_import, torch; print(torch.ops.torchvision.nms.default)"
        ).replace(".", "::", 1)
