import json
import random

import pytest

from usae.common.files.json_files import read_json, write_json

VALUES = {"name": "a", "mean": 0.1 + 0.2, "sizes": [3, 5], "more": {"é": None, "crc32c": ["00ff"]}}


def test_what_was_written_comes_back_and_the_same_values_give_the_same_bytes(tmp_path):
    for name in ("one.json", "two.json"):
        write_json(tmp_path / name, VALUES)
    assert read_json(tmp_path / "one.json") == VALUES
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_flipped_bit_is_another_spacing_or_is_refused(tmp_path):
    """Most digits of a manifest are one flip away from another number."""
    file = tmp_path / "a.json"
    write_json(file, VALUES)
    whole, refused = file.read_bytes(), 0
    for bit in random.Random(0).sample(range(8 * len(whole)), 400):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            said = read_json(file)
        except ValueError:
            refused += 1
        else:  # in a space, or in the checksum's own name
            said.pop(next(iter(said.keys() - VALUES.keys()), None), None)
            assert said == VALUES
    assert refused > 300


def test_files_without_a_checksum_are_read_as_they_are(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(VALUES))
    assert read_json(tmp_path / "a.json") == VALUES


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="should hold a mapping, found (list|NoneType|int)"):
        read_json(tmp_path / "a.json")
