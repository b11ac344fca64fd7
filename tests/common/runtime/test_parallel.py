import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from usae.common.errors import Diverged, UserError
from usae.common.runtime.parallel import side_by_side

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parts are computed here")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def process_and_threads(number: int) -> tuple[int, int, int]:
    time.sleep(0.02 * (number % 2))
    return number, os.getpid(), torch.get_num_threads()


def test_results_come_in_order_from_processes_of_one_thread():
    numbers, processes, threads = zip(*side_by_side(process_and_threads, range(5), CPU), strict=True)
    assert numbers == (0, 1, 2, 3, 4)
    assert os.getpid() not in processes
    assert set(threads) == {1}


def test_with_one_thread_or_on_another_device_all_is_computed_here():
    elsewhere = side_by_side(process_and_threads, range(2), torch.device("meta"))
    assert {process for _, process, _ in elsewhere} == {os.getpid()}
    torch.set_num_threads(1)
    assert {process for _, process, _ in side_by_side(process_and_threads, range(2), CPU)} == {os.getpid()}


def test_a_part_is_taken_when_there_is_a_process_for_it():
    taken = []
    results = side_by_side(lambda number: number, (taken.append(n) or n for n in range(9)), CPU)
    assert next(results) == 0
    assert len(taken) <= 4
    assert list(results) == list(range(1, 9))


def alone(folder: Path) -> tuple[int, int]:
    """How many of these are at work, and the process."""
    own = folder / str(os.getpid())
    own.touch()
    time.sleep(0.1)
    others = len(list(folder.iterdir()))
    own.unlink()
    return others, os.getpid()


@pytest.mark.parametrize(("each", "at_once"), [(0, 2), (1 << 60, 1)])
def test_as_many_at_once_as_have_room(tmp_path, each, at_once):
    counts, processes = zip(*side_by_side(alone, [tmp_path] * 4, CPU, each), strict=True)
    assert max(counts) == at_once
    assert len(set(processes) - {os.getpid()}) == 4


def test_products_are_those_of_one_process():
    rows = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(rows.T @ rows, each) for each in side_by_side(lambda _: rows.T @ rows, range(2), CPU))


def diverge(number: int) -> int:
    if number == 1:
        raise Diverged("the loss ran away")
    time.sleep(30)
    return number


def test_a_fault_is_raised_as_it_was_and_ends_the_others():
    started = time.monotonic()
    with pytest.raises(Diverged, match="the loss ran away"):
        list(side_by_side(diverge, range(2), CPU))
    assert time.monotonic() - started < 10


def test_a_bug_leaves_its_traceback(capfd):
    with pytest.raises(RuntimeError, match="its traceback stands above"):
        list(side_by_side(lambda number: 1 // number, range(1), CPU))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_killed_process_is_told_from_a_bug():
    with pytest.raises(UserError, match=r"ended by signal 9, perhaps for lack of memory.*runtime\.threads: 1"):
        list(side_by_side(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(1), CPU))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_forked_it(tmp_path, number):
    command = [sys.executable, "-m", "tests.support.forked", str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    children = waited_for(lambda: [int(each.name) for each in tmp_path.iterdir()], 2)
    parent.send_signal(number)
    parent.wait(10)
    waited_for(lambda: [pid for pid in children if not Path(f"/proc/{pid}").exists()], 2)


def waited_for(found, wanted: int) -> list[int]:
    deadline = time.monotonic() + 30
    while len(found()) < wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(found()) == wanted
    return found()
