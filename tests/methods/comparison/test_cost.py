"""What training takes: by hand."""

import pytest
import torch

from usae.methods import sparc_published
from usae.methods.comparison.cost import cost
from usae.methods.joint.sae import FreeCrosscoder, SparcSAE
from usae.methods.sparc_published import PublishedSparc, PublishedSparcMethod
from usae.sae.universal import UniversalSAE

WIDTHS = {"a": 10, "b": 20}
TRAIN = {"sources": "one", "batch_images": 4, "epochs": 3, "aux": "none"}


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
        (of(UniversalSAE, aux="multi_topk"), 4, 750, 1050),  # 5 codes, then 5 + 25
        (of(SparcSAE, aux="multi_topk"), 9, 1500, 300),  # the family has no auxiliary loss
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


def test_steps_are_the_updates_that_a_method_with_batches_of_its_own_makes(monkeypatch):
    """Batches of 4, 4 and 2 images of 9 tokens, in batches of 8 tokens: 5, 5 and 3 updates."""
    monkeypatch.setattr(sparc_published, "BATCH_TOKENS", 8)
    method = PublishedSparcMethod(PublishedSparc(WIDTHS, 50, 5, {"train": TRAIN, "method": "another"}), 0)
    for step, images in enumerate([4, 4, 2] * 3):
        tokens = {model: torch.randn(images * 9, width) for model, width in WIDTHS.items()}
        method.step(tokens, step, scored=False)
    found = cost(method.sae, images=10, tokens=9, batch_tokens=8)
    assert found["steps"] == found["encoder_updates"] == method.steps == 39
    assert found["gflop"] == cost(method.sae, images=10, tokens=9)["gflop"]
