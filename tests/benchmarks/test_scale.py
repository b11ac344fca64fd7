import pytest

from benchmarks import scale
from benchmarks.scale import PARTS, extended, row
from usae.activations.store import ActivationStore


def test_what_grows_is_extended_along_its_line_and_what_does_not_stays():
    assert extended([10, 20, 40], (1.0, 2.0, 4.0), 400) == 40
    assert extended([10, 20, 40], (5.0, 5.0, 5.0), 400) == 5
    assert extended([10, 20, 40], (5.0, 5.0, 4.0), 400) == 4


def test_a_row_says_the_growth():
    part = PARTS["stores: verify, gc"]
    cells = row("x", part, [10, 20, 40], [(1.0, 300.0), (4.0, 300.0), (16.0, 300.0)]).split(" | ")
    assert cells[1:5] == ["10 / 20 / 40 chunks", "1.0 / 4.0 / 16.0", "300 / 300 / 300", "2.00"]


SIZES = {
    "`images`: list and check": 24,
    "stores: verify, gc": 24,
    "`encode`, one model": 4,
    "`contrast`, one SAE": 8,
    "`measure`, of codes": 70,
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_parts_run(name, size, tmp_path):
    part = PARTS[name]
    part.made(tmp_path, size)
    part.run(tmp_path, size)


def test_chunks_of_activations_are_links_to_a_few(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "MADE", 1)
    monkeypatch.setattr(scale, "CHUNK", 2)
    scale.activations(tmp_path, 7)
    store = ActivationStore.open(tmp_path / scale.MODELS[0])
    chunks = [store.chunk(number) for number in range(4)]
    assert [len(chunk) for chunk in chunks] == [2, 2, 2, 1]
    assert (chunks[0] == chunks[2]).all()
    assert [store.chunk_path(number).stat().st_nlink for number in range(4)] == [3, 3, 3, 1]


def test_a_set_of_holes_is_shuffled_in_windows(tmp_path):
    part = PARTS["`train`: shuffle in windows"]
    part.made(tmp_path, 192)
    part.run(tmp_path, 192)
    assert sum(file.stat().st_blocks for file in tmp_path.rglob("*") if file.is_file()) * 512 < 1e6
