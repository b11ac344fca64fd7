import numpy as np
import pandas as pd
import pytest

from usae.common.tables import write_table
from usae.evidence.metrics.measure.published import PUBLISHED, paper_frame
from usae.evidence.metrics.measure.tables import PAPER


@pytest.fixture
def reconstruction():
    rows = [("usae", "vit", "vit", "val", 0.5, 0.4), ("usae", "vit", "dinov2", "val", 0.3, 0.8),
            ("usae", "vit", "vit", "train", 0.9, 0.1), ("independent", "vit", "vit", "val", 0.7, 0.2)]  # fmt: skip
    return pd.DataFrame(rows, columns=["sae", "source", "target", "split", "r2_scalar", "mse"])


def test_the_matrix_has_the_means_that_stand_beside_it():
    matrix = {row.model.split(" to ")[0] + ">" + row.model.split(" to ")[1]: row.value
              for row in PUBLISHED if " to " in row.model}  # fmt: skip
    own = [value for pair, value in matrix.items() if len(set(pair.split(">"))) == 1]
    others = [value for pair, value in matrix.items() if len(set(pair.split(">"))) == 2]
    printed = {row.quantity: row.value for row in PUBLISHED}
    assert np.mean(own) == pytest.approx(printed["R2 of own activations, mean over models"], abs=5e-4)
    assert np.mean(others) == pytest.approx(printed["R2 of other models, mean over pairs"], abs=5e-4)


@pytest.mark.parametrize(("model", "variance"), [("siglip", 1.0), ("vit", 1.0), ("dinov2", 0.826)])
def test_errors_and_r2_of_imagenet_belong_together(model, variance):
    """MSE = (1 - R2) variance; DINOv2's is below 1, since its tokens are interpolated after standardisation."""
    error = next(r.value for r in PUBLISHED if r.quantity == "mean squared error, ImageNet" and r.model == model)
    r2 = next(r.value for r in PUBLISHED if r.model == f"{model} to {model}")
    assert error / (1 - r2) == pytest.approx(variance, abs=1e-3)


def test_our_numbers_stand_beside_the_papers(reconstruction, tmp_path):
    numbers = {"consistency_auc/all/vit": 0.5, "consistency_auc/all/other": 0.3, "importance_r": None}
    frame = paper_frame(numbers, reconstruction)
    write_table(PAPER, frame, tmp_path / "paper.parquet")
    assert len(frame) == len(PUBLISHED)
    ours = frame.assign(model=frame["model"].fillna("")).set_index(["quantity", "model"])["ours"].dropna()
    assert ours.to_dict() == {
        ("R2 of the target", "vit to vit"): 0.5,
        ("R2 of the target", "vit to dinov2"): 0.3,
        ("R2 of an independent SAE, mean over models", ""): 0.7,
        ("R2 of an independent SAE", "vit"): 0.7,
        ("mean squared error, ImageNet, mean over models", ""): 0.4,
        ("mean squared error, ImageNet", "vit"): 0.4,
        ("area under the curve, mean over models", ""): 0.4,
        ("area under the curve", "vit"): 0.5,
    }
    assert frame["difference"].isna().all()  # of other models and images it would say nothing


def test_a_difference_is_of_the_papers_models_and_images(reconstruction):
    others = pd.DataFrame([("usae", "siglip", "vit", "val"), ("usae", "dinov2", "vit", "val")],
                          columns=["sae", "source", "target", "split"])  # fmt: skip
    papers = pd.concat([reconstruction, others])
    frame = paper_frame({"images": 50_000}, papers)
    assert frame[frame["ours"] == 0.3].iloc[0]["difference"] == pytest.approx(0.3 - 0.45)
    assert paper_frame({"images": 500}, papers)["difference"].isna().all()
    assert paper_frame({"images": 50_000}, reconstruction)["difference"].isna().all()


def test_every_row_says_what_differs():
    assert all(row.where and row.quantity and row.differs for row in PUBLISHED)
    keys = [(row.where, row.quantity, row.model) for row in PUBLISHED]
    assert len(set(keys)) == len(keys)
