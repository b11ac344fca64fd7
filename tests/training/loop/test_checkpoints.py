"""A checkpoint gives back every bit, survives kills and full disks, and says whose it is."""

import json
import pickle
import random
import re
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from tests.activations.extraction.test_interruptions import run
from usae.activations.store.location import checkpoint_folder, fingerprint
from usae.common.errors import UserError
from usae.common.files.sealed import write_sealed
from usae.training.loop.checkpoints import Checkpoints, restore_rng, rng_state

KILLS = 20
IDENTITY = {"k": 16, "train": {"epochs": 8, "init": "paired"}, "models": ("a", "b")}


@pytest.fixture
def folder(tmp_path):
    return checkpoint_folder(tmp_path / "root", "usae", IDENTITY)


@pytest.fixture
def checkpoints(folder):
    return Checkpoints(folder, IDENTITY, 10)


def flip(path, place=1000):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def bits(tensor):
    return tensor.dtype, tensor.shape, tensor.flatten().contiguous().view(torch.uint8).tolist()


def test_every_bit_comes_back(checkpoints):
    odd = torch.tensor([0x7FC00001, 0x7F800001, -0x80000000, 1, 0x7F7FFFFF], dtype=torch.int32).view(torch.float32)
    tensors = {
        "odd": odd,  # NaNs with payloads, -0.0, a subnormal
        "half": torch.randn(3, 5, dtype=torch.bfloat16),
        "double": torch.randn(2, 3, dtype=torch.float64).T,
        "counts": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "empty": torch.empty(0, 4),
    }
    plain = {
        "step": 3,
        "best": 0.1 + 0.2,
        "none": None,
        "names": ["a", "b"],
        "pair": (1, (2.5, True)),
        7: {"x": {}},
    }
    checkpoints.save({"tensors": tensors, "plain": plain})
    found = checkpoints.load()
    assert found["plain"] == plain
    assert {name: bits(tensor) for name, tensor in found["tensors"].items()} == {
        name: bits(tensor) for name, tensor in tensors.items()
    }


def test_nothing_there(checkpoints):
    assert checkpoints.load() is None
    checkpoints.clear()


def test_the_folder_is_named_by_the_configuration(tmp_path, folder):
    assert folder == tmp_path / "root" / "training" / f"usae-{fingerprint(IDENTITY)}"
    assert checkpoint_folder(tmp_path / "root", "usae", IDENTITY | {"k": 17}) != folder


def test_two_are_kept_and_the_newest_counts(checkpoints, folder):
    for step in range(4):
        checkpoints.save({"step": step})
    assert names(folder) == ["000003.state", "000004.state"]
    assert checkpoints.load() == {"step": 3}


def test_clear_removes_the_run_and_no_other(checkpoints, folder):
    other = Checkpoints(folder.with_name("usae-0123456789ab"), {}, 10)
    checkpoints.save({"step": 1})
    other.save({"step": 2})
    checkpoints.clear()
    assert not folder.exists()
    assert other.load() == {"step": 2}
    other.clear()
    assert not folder.parent.exists()


def test_due_counts_from_the_last_save(folder):
    assert Checkpoints(folder, {}, 0).due()
    later = Checkpoints(folder, {}, 10)
    assert not later.due()
    later.last -= 600
    assert later.due()
    later.save({})
    assert not later.due()


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_flipped_byte_goes_back_one_and_says_so(checkpoints, folder, caplog, place):
    for step in range(2):
        checkpoints.save({"step": step, "weights": torch.arange(1000)})
    newest = folder / "000002.state"
    flip(newest, place)
    assert checkpoints.load()["step"] == 0
    assert caplog.messages == [
        f"{newest} does not match its checksum; going on from the one before, 000001.state."
    ]
    checkpoints.save({"step": 7})
    assert names(folder) == ["000001.state", "000002.state"]
    assert checkpoints.load() == {"step": 7}


def test_a_truncated_file_is_damaged_too(checkpoints, folder, caplog):
    for step in range(2):
        checkpoints.save({"step": step})
    newest = folder / "000002.state"
    newest.write_bytes(newest.read_bytes()[:-700])
    assert checkpoints.load() == {"step": 0}
    assert len(caplog.messages) == 1


def test_when_none_is_whole_the_error_says_what_to_do(checkpoints, folder):
    for step in range(2):
        checkpoints.save({"step": step})
    flip(folder / "000001.state")
    flip(folder / "000002.state")
    with pytest.raises(UserError) as error:
        checkpoints.load()
    assert str(error.value).splitlines() == [
        f"No checkpoint in {folder} is whole. `rm -r {folder}` lets the same command start from the beginning. "
        "These do not match their checksums:",
        f"  - {folder / '000002.state'}",
        f"  - {folder / '000001.state'}",
    ]
    assert len(names(folder)) == 2


def test_another_configuration_lists_every_difference(checkpoints, folder):
    checkpoints.save({"step": 1})
    other = {"k": 32, "train": {"epochs": 8, "aux": "none"}, "models": ["a", "c"]}
    with pytest.raises(UserError) as error:
        Checkpoints(folder, other, 10).load()
    assert str(error.value).splitlines() == [
        f"The checkpoint {folder / '000001.state'} is of another configuration. `rm -r {folder}` lets the same "
        "command start from the beginning; with the other configuration it goes on. They differ in",
        "  - `k`: expected 32, found 16",
        '  - `train.aux`: expected "none", found none',
        '  - `models`: expected ["a", "c"], found ["a", "b"]',
        '  - `train.init`: expected none, found "paired"',
    ]


def test_lists_and_tuples_are_the_same_configuration(checkpoints, folder):
    checkpoints.save({"step": 1})
    assert Checkpoints(folder, IDENTITY | {"models": ["a", "b"]}, 10).load() == {"step": 1}


def test_what_could_not_be_loaded_is_not_saved(checkpoints, folder):
    with pytest.raises(TypeError) as error:
        checkpoints.save({"loss": np.float64(1), "log": [{"at": folder}], "ok": 1.0})
    assert str(error.value) == (
        "A checkpoint holds tensors and plain values only, found state.loss (float64), state.log[].at (PosixPath)."
    )
    assert not folder.exists()


@contextmanager
def small_disk(size):
    """No file may grow beyond `size` bytes: the system refuses the rest, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_the_checkpoint_that_is_there(checkpoints, folder):
    checkpoints.save({"step": 1, "weights": torch.zeros(10)})
    with pytest.raises(UserError) as error, small_disk(50_000):
        checkpoints.save({"step": 2, "weights": torch.zeros(100_000)})
    pattern = (
        r"000002\.state could not be written \(File too large\): it needs 40\dkB, [\d.]+[MGT]B are free there\."
    )
    assert re.search(pattern, str(error.value))
    assert str(error.value).endswith("and run the same command again: what is finished is kept.")
    assert names(folder) == ["000001.state"]
    assert checkpoints.load()["step"] == 1
    checkpoints.save({"step": 3})
    assert checkpoints.load() == {"step": 3}


def test_twenty_kills_leave_a_whole_checkpoint(tmp_path):
    process = run("-m", "tests.support.interrupted_saves", str(tmp_path / "usae-0123456789ab"), str(KILLS), "0")
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    found = json.loads(out)
    assert found["whole"] == [1] * KILLS
    assert all(loaded - said in (0, 1) for said, loaded in zip(found["said"], found["loaded"], strict=True))
    assert sum(found["partial"]) >= 3  # they hit the middle of a write
    assert max(found["files"]) <= 3  # loading sweeps what was half written; the third is not yet removed


def draws():
    return [random.random(), np.random.rand(), random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist()]


def test_generators_go_on_where_they_were(checkpoints):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    draws()  # a normal deviate is left over in NumPy's generator
    checkpoints.save({"rng": rng_state()})
    expected = [draws() for _ in range(3)]
    restore_rng(checkpoints.load()["rng"])
    assert [draws() for _ in range(3)] == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_generators_go_on_too(checkpoints):
    torch.cuda.manual_seed_all(3)
    checkpoints.save({"rng": rng_state(), "there": torch.arange(3, device="cuda")})
    expected = torch.rand(5, device="cuda")
    found = checkpoints.load()
    restore_rng(found["rng"])
    assert torch.equal(torch.rand(5, device="cuda"), expected)
    assert found["there"].device.type == "cpu"


def test_a_run_in_two_halves_is_one_run(checkpoints):
    """Dropout draws from torch's generator, the rows from NumPy's; AdamW and the schedule have states."""

    def start():
        torch.manual_seed(0)
        np.random.seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout())
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        return model, optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)

    def steps(parts, count):
        model, optimiser, schedule = parts
        for _ in range(count):
            model(torch.from_numpy(np.random.randn(8, 6)).float()).square().sum().backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()

    undisturbed = start()
    steps(undisturbed, 20)
    first = start()
    steps(first, 9)
    checkpoints.save({"parts": [part.state_dict() for part in first], "rng": rng_state()})
    torch.manual_seed(99), np.random.seed(99)
    second, found = start(), checkpoints.load()
    for part, state in zip(second, found["parts"], strict=True):
        part.load_state_dict(state)
    restore_rng(found["rng"])
    steps(second, 11)
    for name, tensor in undisturbed[0].state_dict().items():
        assert bits(tensor) == bits(second[0].state_dict()[name]), name


def test_a_sealed_file_that_is_no_state_is_one_sentence_and_runs_nothing(checkpoints, folder, tmp_path):
    checkpoints.save({"step": 1})
    for content in (b"garbage", pickle.dumps(Malicious(f"{tmp_path}/ran"))):
        write_sealed(folder / "000001.state", np.frombuffer(content, np.uint8))
        with pytest.raises(UserError, match=r"000001.state holds no state of a run .*`rm -r .*same command"):
            checkpoints.load()
    assert not (tmp_path / "ran").exists()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))
