"""What the interpreter cannot see: the kernels compile for a Hopper GPU, which need not be here, and fit on it."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

REGISTERS, SHARED = (
    65_536,
    227 << 10,
)  # of a multiprocessor; bytes that a program may share


@pytest.fixture(scope="module")
def compiled():
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.support.compiled"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_compiles_and_spills_nothing(compiled):
    assert len(compiled) == 8
    assert [each["kernel"] for each in compiled if each["spilled"]] == []


def test_a_program_has_the_registers_and_memory_of_a_multiprocessor(compiled):
    for each in compiled:
        assert each["registers"] * 32 * each["warps"] <= REGISTERS, each
        assert each["shared"] <= SHARED, each
