import numpy as np
import pandas as pd
import pytest

from usae.common.numerics.matching import concatenated, random_matching
from usae.evidence.metrics.contrast.stability import stability_frame, stability_numbers


def test_a_reordered_dictionary_is_stable():
    rng = np.random.default_rng(0)
    parts, order = [rng.normal(size=(30, 8)), rng.normal(size=(30, 5))], rng.permutation(30)
    runs = {"usae": concatenated(parts), "seed-1": concatenated([rows[order] for rows in parts])}
    table = stability_frame(runs, seed=0)
    matched = table[table["run"] == "seed-1"]
    np.testing.assert_array_equal(order[matched["partner"].astype(int)], np.arange(30))
    np.testing.assert_allclose(matched["cosine"], 1, atol=1e-6)
    floor = table[table["run"] == "gaussian"]
    np.testing.assert_array_equal(floor["cosine"], random_matching(30, 13, 0))
    assert floor["partner"].isna().all()


def test_stability_is_set_beside_chance_and_the_lift():
    cosines = {"seed-1": [0.9, 0.6, 0.4, -0.2], "gaussian": [0.6, 0.2, 0.2, 0.2]}
    table = pd.concat([pd.DataFrame({"cosine": values}).assign(run=run) for run, values in cosines.items()])
    concepts = pd.DataFrame({"concept_id": range(4), "q": [0.01, 0.05, 0.01, 0.9], "lift": [2.0, 3.0, 1.0, 99.0]})
    found = stability_numbers(table, concepts).set_index("measure")
    assert set(found["run"]) == {"seed-1"}
    assert found["value"].to_dict() == pytest.approx(
        {
            "stability_mean": 1.9 / 4,
            "stability_above_0.5": 0.5,
            "stability_above_0.7": 0.25,
            "stability_lift_r": 0.5,
        }
    )
    assert found["null"].tolist()[:3] == pytest.approx([0.3, 0.25, 0])
    assert np.isnan(found["null"].iloc[3])
