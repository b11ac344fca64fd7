import numpy as np
import torch
from PIL import Image

from usae.backbones.networks.feature_maps import to_grid
from usae.images.pixels.geometry import fit_image


def test_squash_keeps_the_whole_image_and_center_cuts_it():
    ramp = np.tile(np.linspace(0, 255, 80, dtype=np.uint8)[None, :, None], (40, 1, 3))
    image = Image.fromarray(ramp)
    squashed, centred = (fit_image(image, 16, fit, "bilinear")[0] for fit in ("squash", "center"))
    assert squashed.shape == (16, 16)
    assert squashed[0, 0] < 10
    assert squashed[0, -1] > 245
    assert centred[0, 0] > 60
    assert centred[0, -1] < 195


def test_an_image_of_the_right_size_is_untouched():
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        fit_image(Image.fromarray(pixels), 16, "squash", "bicubic"), pixels.transpose(2, 0, 1)
    )


def test_tokens_are_row_major():
    maps = torch.arange(12.0).reshape(1, 3, 2, 2)
    tokens = to_grid(maps, 2)
    assert tokens.shape == (1, 4, 3)
    assert torch.equal(tokens[0, 1], maps[0, :, 0, 1])
    assert torch.equal(tokens[0, 2], maps[0, :, 1, 0])


def test_one_token_is_the_mean_over_all_places():
    maps = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(to_grid(maps, 1), maps.flatten(2).mean(2)[:, None], rtol=0, atol=1e-12)
    corner = torch.zeros(1, 1, 8, 8)
    corner[..., 0, 0] = 64.0
    assert to_grid(corner, 1).item() == 1.0


def test_interpolation_weights_sum_to_one_so_standardising_commutes():
    maps = torch.randn(2, 5, 16, 16, dtype=torch.float64)
    before = to_grid((maps - 3.0) / 2.0, 14)
    after = (to_grid(maps, 14) - 3.0) / 2.0
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


def test_variance_of_independent_tokens_falls_to_0_346_from_16_to_14():
    maps = torch.randn(64, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    assert abs(to_grid(maps, 14).var().item() - 0.346) < 0.01
