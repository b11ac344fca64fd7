"""Two processes that share each batch do what one does."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.shared_training import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    main(folder)
    command = [sys.executable, "-m", "tests.support.shared_training", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: torch.load(folder / f"{name}.pt") for name in ("1-0", "2-0", "2-1")}


def test_a_step_has_the_loss_statistics_and_gradients_of_the_whole_batch(found):
    for switches, expected in found["1-0"]["steps"].items():
        for rank in ("2-0", "2-1"):
            step = found[rank]["steps"][switches]
            assert step.keys() == expected.keys()
            for name, value in expected.items():
                scale = value.double().norm().clamp_min(1e-12)
                assert (step[name] - value).double().norm() / scale < 1e-12, (switches, rank, name)


def test_a_run_has_the_losses_of_one_process(found):
    alone, shared = found["1-0"]["run"], found["2-0"]["run"]
    torch.testing.assert_close(shared["loss"][:20], alone["loss"][:20], rtol=1e-4, atol=0)
    torch.testing.assert_close(shared["loss"], alone["loss"], rtol=0.02, atol=0)


def test_all_processes_end_with_the_same_bits(found):
    for name, value in found["2-0"]["run"].items():
        assert torch.equal(value, found["2-1"]["run"][name]), name
