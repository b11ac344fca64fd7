"""Real signals to real processes."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline import stage
from usae.common.errors import Interrupted, UserError
from usae.common.runtime.interrupts import graceful

ROOT = Path(__file__).parents[3]
STAGE = """
import os, signal, sys, time
from pipeline import stage
from usae.common.errors import Interrupted
from usae.common.runtime.interrupts import graceful

@stage
def main(params):
    with graceful() as stop:
        print("ready", flush=True)
        while not stop.requested:
            time.sleep(0.01)
        print("requested", flush=True)
        time.sleep(float(os.environ["SAVING"]))
        raise Interrupted(7, stop.signal)

main()
"""


def start(saving=0.0, script=STAGE):
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"SAVING": str(saving), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stage_saves_says_so_and_ends_with_the_signals_status(number, status):
    process = start()
    os.kill(process.pid, number)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert out == "requested\n"
    assert f"{number.name}: saving after this step; Ctrl-C stops at once." in errors
    assert errors.endswith(f"\n{number.name}: saved at step 7; run the same command again to go on.\n")
    assert "Traceback" not in errors


def test_a_second_ctrl_c_stops_at_once():
    process = start(saving=60)
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "requested\n"
    started = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 20
    assert process.returncode == -signal.SIGINT
    assert errors.endswith("\nStopped by Ctrl-C. The same command goes on: what is finished is kept.\n")
    assert "Traceback" not in errors


def test_a_second_sigterm_does_not_disturb_the_saving():
    process = start(saving=0.5)
    os.kill(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "requested\n"
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "saved at step 7" in errors


def test_an_ignored_signal_stays_ignored():
    process = start(script=STAGE.replace("main()\n", "signal.signal(signal.SIGINT, signal.SIG_IGN)\nmain()\n"))
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_the_handlers_before_are_back_also_after_an_error():
    def mine(*_):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, mine), signal.getsignal(signal.SIGINT)
    try:
        with suppress(KeyError), graceful() as stop:
            assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == stop.receive
            raise KeyError
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == (mine, before[1])
    finally:
        signal.signal(signal.SIGTERM, before[0])


def test_the_first_signal_counts(capfd):
    with graceful() as stop:
        assert not stop.requested
        for number in (signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    assert capfd.readouterr().err.count("SIGTERM: saving after this step") == 2


def test_in_another_thread_it_does_nothing():
    before, found = signal.getsignal(signal.SIGINT), []

    def inside():
        with graceful() as stop:
            found.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_interrupted_is_a_user_error_with_a_status():
    error = Interrupted(12, signal.SIGTERM)
    assert isinstance(error, UserError)
    assert (error.status, str(error)) == (
        143,
        "SIGTERM: saved at step 12; run the same command again to go on.",
    )


def test_garbage_is_collected_again_from_the_stage_on():
    gc.disable()
    stage(lambda params: "")
    assert gc.isenabled()


@pytest.mark.parametrize("place", ["while it runs", "while it imports"])
def test_ctrl_c_anywhere_in_a_stage_is_one_line(place):
    waiting = 'print("ready", flush=True); time.sleep(60)'
    stage = "import time\nfrom pipeline import stage\n@stage\ndef main(params):\n"
    script = {
        "while it runs": f"{stage}    {waiting}\nmain()\n",
        "while it imports": f"import pipeline, time\n{waiting}\n",
    }
    process = start(script=script[place])
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors == "\nStopped by Ctrl-C. The same command goes on: what is finished is kept.\n"


def test_what_a_disk_refuses_ends_a_stage_in_one_sentence():
    """Where no writer of ours has met it: here a folder in place of a file."""
    script = "from pathlib import Path\nfrom pipeline import stage\n@stage\ndef main(params):\n    "
    script += 'print("ready", flush=True)\n    Path("usae").write_text("")\nmain()\n'
    process = start(script=script)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.fullmatch(r"\nIs a directory \(usae\); .*B are free there\. .* the same command again: .*\n", errors)
