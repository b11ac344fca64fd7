import pytest

from benchmarks.scale import PARTS, extended, row


def test_what_grows_is_extended_along_its_line_and_what_does_not_stays():
    assert extended([10, 20, 40], (1.0, 2.0, 4.0), 400) == 40
    assert extended([10, 20, 40], (5.0, 5.0, 5.0), 400) == 5
    assert extended([10, 20, 40], (5.0, 5.0, 4.0), 400) == 4


def test_a_row_says_the_growth():
    part = PARTS["stores: verify, gc"]
    cells = row("x", part, [10, 20, 40], [(1.0, 300.0), (4.0, 300.0), (16.0, 300.0)]).split(" | ")
    assert cells[1:5] == ["10 / 20 / 40 chunks", "1.0 / 4.0 / 16.0", "300 / 300 / 300", "2.00"]


@pytest.mark.parametrize("name", ["`images`: list and check", "stores: verify, gc"])
def test_parts_run(name, tmp_path):
    part = PARTS[name]
    part.made(tmp_path, 24)
    part.run(tmp_path, 24)


def test_a_set_of_holes_is_shuffled_in_windows(tmp_path):
    part = PARTS["`train`: shuffle in windows"]
    part.made(tmp_path, 192)
    part.run(tmp_path, 192)
    assert sum(file.stat().st_blocks for file in tmp_path.rglob("*") if file.is_file()) * 512 < 1e6
