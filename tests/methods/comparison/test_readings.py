"""A crosscoder's code, read from one model alone."""

import numpy as np
import pytest
import torch

from tests.support.materials import material_of, sae_with
from usae.methods.comparison.readings import CALIBRATED, MASKED, REFITTED, encoders, readings, refitted
from usae.methods.joint.sae import FreeCrosscoder

WIDTHS = {"a": 3, "b": 3}
RNG = np.random.default_rng(0)


def crosscoder(weights):
    """Two latents; encoders as given (2, 3), every decoder row of norm 1."""
    sae = FreeCrosscoder(WIDTHS, 2, 1).eval()
    with torch.no_grad():
        for model, rows in weights.items():
            part = sae.part(model)
            part.std.fill_(1 - 1e-5)
            part.encoder.linear.weight.copy_(torch.tensor(rows))
            part.encoder.linear.bias.zero_()
            part.dictionary.weight.copy_(torch.eye(2, 3))
    return sae


@pytest.fixture
def copies(tmp_path):
    """Model b holds three times what a holds."""
    rows = RNG.normal(size=(40, 4, 3)).astype(np.float32)
    both = {"a": rows, "b": 3 * rows}
    alone = {model: sae_with({model: np.eye(3)}, 1) for model in both}
    return material_of(tmp_path, both, alone=alone, concepts=3), torch.from_numpy(rows.reshape(-1, 3))


def read(concepts, model, rows, sae):
    pre = concepts.pre_codes(model, rows)
    whole = sae.pre_codes("a", rows) + sae.pre_codes("b", 3 * rows)
    return pre, whole


def test_calibrated_is_exact_where_the_parts_are_in_proportion(copies):
    material, rows = copies
    weights = RNG.normal(size=(2, 3)).astype(np.float32)
    sae = crosscoder({"a": weights, "b": 2 * weights})  # b's part is six times a's
    by_form = {reading.form: reading.concepts for reading in readings(sae, material)}
    assert list(by_form) == [MASKED, CALIBRATED, REFITTED]
    assert by_form[MASKED] is sae
    for form in (CALIBRATED, REFITTED):
        pre, whole = read(by_form[form], "a", rows, sae)
        torch.testing.assert_close(pre, whole, atol=2e-4, rtol=1e-3)


def test_refitted_finds_parts_of_another_direction_and_calibrated_does_not(copies):
    material, rows = copies
    one, other = RNG.normal(size=(2, 2, 3)).astype(np.float32)
    sae = crosscoder({"a": one, "b": other})
    by_form = {reading.form: reading.concepts for reading in readings(sae, material)}
    pre, whole = read(by_form[REFITTED], "a", rows, sae)
    torch.testing.assert_close(pre, whole, atol=2e-4, rtol=1e-3)
    part, _ = read(by_form[CALIBRATED], "a", rows, sae)
    for latent in range(2):  # a least-squares line on the own part: what is left does not correlate with it
        own = (rows @ torch.from_numpy(one[latent])).double()
        left = (whole[:, latent] - part[:, latent]).detach().double()
        assert abs(float(torch.corrcoef(torch.stack([own, left]))[0, 1])) < 1e-3
        assert abs(float(left.mean())) < 1e-4


def test_a_part_that_never_changes_says_the_mean(copies):
    material, rows = copies
    sae = crosscoder({"a": np.zeros((2, 3), np.float32), "b": np.ones((2, 3), np.float32)})
    calibrated = readings(sae, material)[1].concepts
    pre, whole = read(calibrated, "a", rows, sae)
    torch.testing.assert_close(pre, whole.mean(0).expand_as(pre), atol=1e-4, rtol=1e-4)


def test_decoders_are_the_crosscoders_own(copies):
    material, rows = copies
    sae = crosscoder({model: np.ones((2, 3), np.float32) for model in WIDTHS})
    with torch.no_grad():
        sae.part("a").dictionary.weight.mul_(3)
        sae.part("a").dictionary.offset.fill_(0.5)
    codes = sae.encode({"a": rows})["a"]
    for reading in readings(sae, material)[1:]:
        for model in WIDTHS:
            torch.testing.assert_close(reading.concepts.decode(model, codes), sae.decode(model, codes))


def test_own_codes_are_refitted_to_their_mean(copies):
    material, rows = copies
    sae = material.units
    pre = refitted(sae, material).concepts.pre_codes("b", 3 * rows)
    torch.testing.assert_close(
        pre, (sae.pre_codes("a", rows) + sae.pre_codes("b", 3 * rows)) / 2, atol=1e-3, rtol=1e-3
    )


def test_encoders_are_in_the_unit_of_the_codes(copies):
    _, rows = copies
    sae = crosscoder({model: RNG.normal(size=(2, 3)).astype(np.float32) for model in WIDTHS})
    with torch.no_grad():
        sae.part("b").dictionary.weight.mul_(5)  # mean norm 3
    part = encoders(sae)["a"](rows.numpy())
    np.testing.assert_allclose(part, 3 * sae.pre_codes("a", rows).detach().numpy(), rtol=1e-4, atol=1e-5)
