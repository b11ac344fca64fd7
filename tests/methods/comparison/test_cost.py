"""What training takes: by hand."""

import pytest

from usae.methods.comparison.cost import cost
from usae.methods.joint.sae import FreeCrosscoder, SparcSAE
from usae.sae.universal import UniversalSAE

WIDTHS = {"a": 10, "b": 20}
TRAIN = {"sources": "one", "batch_images": 4, "epochs": 3}


def of(kind, **train):
    method = {} if kind is UniversalSAE else {"method": "another"}
    return cost(kind(WIDTHS, 50, 5, {"train": TRAIN | train, **method}), images=10, tokens=9)


@pytest.mark.parametrize(
    ("found", "updates", "encoded", "decoded"),
    [
        (
            of(UniversalSAE),
            4,
            750,
            150,
        ),  # a batch is one model's: half of 30 x 50, and one code to all 30 channels
        (of(UniversalSAE, sources="each"), 9, 750, 150),
        (of(UniversalSAE, sources="all"), 9, 1500, 300),
        (of(SparcSAE), 9, 1500, 300),
        (of(FreeCrosscoder), 9, 1500, 150),
    ],
)
def test_updates_and_products(found, updates, encoded, decoded):
    assert found["steps"] == 9  # three epochs of three batches
    assert found["encoder_updates"] == updates
    assert found["gflop"] == pytest.approx(6 * 10 * 9 * 3 * (encoded + decoded) / 1e9)


def test_parameters_are_those_that_learn():
    linear, rows = 50 * 30 + 2 * 50, 50 * 30
    assert of(UniversalSAE)["parameters"] == linear + 2 * 2 * 50 + rows
    assert of(FreeCrosscoder)["parameters"] == linear + rows + 30
