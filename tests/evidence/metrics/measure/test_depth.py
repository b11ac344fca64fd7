import numpy as np
import pandas as pd
import pytest

from usae.common.tables import write_table
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.counts import FiringCounts
from usae.evidence.metrics.measure.depth import Stream, depth_frame, streams
from usae.evidence.metrics.measure.tables import DEPTH


class Extracted:
    """A manifest, as far as depth looks at one."""

    def __init__(self, sha256: str, layer: int | str) -> None:
        self.backbone, self.layer = {"timm": "vit", "sha256": sha256}, layer


def counted(fires: np.ndarray) -> FiringCounts:
    """Of fires (models, tokens, concepts)."""
    counts = FiringCounts(len(fires), fires.shape[2], 0.1)
    indices = np.broadcast_to(np.arange(fires.shape[2]), fires.shape[1:])[None]
    counts.update([CodeChunk(np.arange(1), indices, part[None].astype(np.float32)) for part in fires])
    return counts


def test_models_of_the_same_weights_are_one_network_and_their_layers_are_in_order():
    manifests = {"last": Extracted("x", -1), "other": Extracted("y", 3), "third": Extracted("x", 3)}
    manifests |= {"before": Extracted("x", -2), "first": Extracted("x", 0)}
    manifests |= {"module": Extracted("y", "layer4"), "further": Extracted("y", "layer2")}
    assert streams(manifests) == {
        "last": Stream("last", "-1", 3),
        "other": Stream("other", "3", 0),
        "third": Stream("last", "3", 1),
        "before": Stream("last", "-2", 2),
        "first": Stream("last", "0", 0),
        "module": Stream("other", "layer4", 1),
        "further": Stream("other", "layer2", 2),
    }


def test_agreement_is_that_of_the_busier_model_over_concepts_that_fire_enough(tmp_path):
    fires = np.zeros((3, 100, 3), dtype=bool)
    fires[0, :40, 0] = fires[1, :30, 0] = fires[2, 35:75, 0] = True  # 30, 5 and no tokens in common
    fires[:, :50, 1] = True
    fires[:2, :19, 2] = True  # too few to be judged
    where = {"early": Stream("early", "0", 0), "late": Stream("early", "5", 1), "far": Stream("far", "-1", 0)}
    table = depth_frame(counted(fires), where, 0.5).set_index(["model", "other"])
    assert table.loc[("early", "late"), "agreement"] == pytest.approx((30 / 40 + 1) / 2)
    assert table.loc[("far", "early"), "agreement"] == pytest.approx((5 / 40 + 1) / 2)
    assert table.loc[("late", "far"), "agreement"] == pytest.approx((0 / 40 + 1) / 2)
    assert table["concepts"].tolist() == [2] * 6
    assert table.loc[("early", "late"), "shared"] == 1
    assert table.loc[("early", "far"), "shared"] == 0.5
    assert table.loc[("early", "late"), "lift"] == pytest.approx((30 * 100 / 1200 + 2) / 2)
    write_table(DEPTH, table.reset_index()[list(DEPTH.names)], tmp_path / "depth.parquet")
    assert list(pd.read_parquet(tmp_path / "depth.parquet").columns) == list(DEPTH.names)


def test_without_two_layers_of_one_network_there_are_no_rows():
    where = {"a": Stream("a", "-1", 0), "b": Stream("b", "-1", 0)}
    assert depth_frame(counted(np.ones((2, 30, 1), dtype=bool)), where, 0.1).empty
