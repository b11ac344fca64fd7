import subprocess
import sys

import pytest
import yaml

from benchmarks.fixed import WIDTHS, Cost, at_full_size, row, watched
from benchmarks.streams import ROOT
from usae.common.params import parse_params


def test_sizes_are_the_papers():
    params = parse_params(at_full_size(yaml.safe_load((ROOT / "params.yaml").read_text()), 96, 32))
    assert (params.train.dictionary, params.k, params.extract.grid) == (6144, 32, 14)
    assert [params.zoo[model].backbone.kwargs["embed_dim"] for model in params.models] == list(WIDTHS.values())
    assert params.interventions.onboarding_images[-1] == params.images.train == 96


def test_a_process_is_watched():
    program = "import time; print('one', flush=True); time.sleep(2); print('two'); sum(range(2_000_000))"
    cost = watched([sys.executable, "-c", program])
    assert cost.after == "one"
    assert 1.9 < cost.silent < cost.wall
    assert cost.cpu > 0
    assert cost.peak > 5  # a process starts as a copy of the one that starts it, here of all the tests
    assert row("train", Cost(1.6, 2.4, 1234.5, 1.0, "a | b")) == "| `train` | 2 | 2 | 1,234 | 1 | a / b |"


def test_a_process_that_fails_ends_the_run_with_what_it_wrote(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        watched([sys.executable, "-c", "print('wrong', flush=True); raise SystemExit(3)"])
    assert "wrong" in capfd.readouterr().err
