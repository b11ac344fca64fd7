import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from usae.common.errors import UserError
from usae.common.runtime.tracker import open_tracker

ROOT = Path(__file__).parents[3]
HAVE = {name: importlib.util.find_spec(name) is not None for name in ("tensorboard", "wandb")}


def test_off_by_default(params):
    assert params.runtime.tracker is None
    assert open_tracker(None, "run") is None


@pytest.mark.parametrize("package", HAVE)
def test_a_missing_package_is_named_with_the_command_that_installs_it(package):
    if HAVE[package]:
        pytest.skip(f"{package} is installed here")
    with pytest.raises(UserError) as error:
        open_tracker(f"{package}:somewhere", "run")
    text = str(error.value)
    assert text.startswith(f"`runtime.tracker` asks for {package}, which is not installed here (")
    assert text.endswith(f"Run `pip install {package}`, or set `runtime.tracker: null`.")


def test_neither_is_imported_unless_asked_for():
    asked = "import sys, usae.common.runtime.tracker; usae.common.runtime.tracker.open_tracker(None, 'run');"
    script = f"{asked} print({{'tensorboard', 'wandb'}} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", script], env=environment, text=True) == "set()\n"


@pytest.mark.skipif(not HAVE["tensorboard"], reason="the package tensorboard is not installed")
def test_tensorboard_gets_the_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track = open_tracker(f"tensorboard:{tmp_path}", "run")
    track(3, {"loss/a": 0.5})
    track(9, {"loss/a": 0.25})
    events = EventAccumulator(str(tmp_path / "run")).Reload().Scalars("loss/a")
    assert [(event.step, event.value) for event in events] == [(3, 0.5), (9, 0.25)]
