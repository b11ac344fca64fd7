"""What the study of starts and levels says of an SAE: its first level alone, and the images that it scores on."""

import numpy as np
import pandas as pd
import torch

from benchmarks.concepts import Part, first_level, markdown, r2, so_far
from tests.support.worlds import store_at
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE


def test_the_first_level_alone_decodes_the_coarse_codes():
    torch.manual_seed(0)
    sae = UniversalSAE({"a": 6, "b": 5}, 12, 4, coarse=(4,)).eval()
    codes = sae.encode({"a": torch.randn(9, 6)})["a"]
    coarse = SparseCodes(codes.indices[:, :2], codes.values[:, :2])
    torch.testing.assert_close(first_level(sae).decode("b", codes), sae.decode("b", coarse))
    assert not torch.allclose(sae.decode("b", codes), sae.decode("b", coarse))


def test_a_part_of_a_store_is_its_members(tmp_path):
    activations = np.arange(10 * 3 * 2, dtype="float32").reshape(10, 3, 2)
    part = Part(store_at(tmp_path / "store", activations), np.array([1, 4, 9]))
    assert part.images == 3
    np.testing.assert_array_equal(part.take(np.array([0, 2])), activations[[1, 9]])


def test_every_row_of_the_table_is_printed_and_none_is_there_twice():
    rows = so_far()
    table, keys = ["data", "dictionary", "steps"], ["data", "dictionary", "steps", "recipe", "learning_rate"]
    assert not rows.duplicated([*keys, "seed", "images"]).any()
    printed = [line for line in markdown(rows).splitlines() if line.startswith("|") and "---" not in line]
    assert len(printed) == len(rows.drop_duplicates(keys)) + len(rows.drop_duplicates(table))
    assert set(rows["images"]) == {"choice", "held out"}


def test_r2_within_models_and_across():
    table = pd.DataFrame(
        {"source": ["a", "a", "b", "b"], "target": ["a", "b", "a", "b"], "r2_channel": [0.9, 0.1, 0.3, 0.7]}
    )
    assert r2(table, "_x") == {"r2_self_x": 0.8, "r2_cross_x": 0.2}
