import subprocess
import sys

from tests.conftest import ROOT

SCRIPT = """
import sys
import torch
from usae.backbones.networks.timm_import import timm
from usae.common.runtime.compiler import Postponed
weight = torch.nn.Parameter(torch.ones(2))
optimiser = torch.optim.AdamW([weight], lr=0.5)
weight.sum().backward()
optimiser.step()
assert weight[0] < 1, weight
assert isinstance(sys.modules["torch._dynamo"], Postponed)
assert not [name for name in sys.modules if name.startswith("torch._dynamo.")]
double = torch.compile(lambda rows: 2 * rows, backend="eager")
print(double(torch.ones(2)).tolist(), torch._dynamo.utils.__name__)
assert not isinstance(sys.modules["torch._dynamo"], Postponed)
"""


def test_it_is_loaded_by_whoever_compiles_and_by_nobody_else():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.split("\n")[0] == "[2.0, 2.0] torch._dynamo.utils", done.stderr
