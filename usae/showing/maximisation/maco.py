"""Images whose Fourier magnitude is fixed and whose phase is free (MACO, Fel et al. 2023, arXiv 2306.06805).

Used by the `maximise` stage through `ascent.py`. The magnitude is that of the run's own images, so an
optimiser can move structure about but cannot invent adversarial high frequencies; no other penalty is needed.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from usae.common.errors import UserError

# Colour correlations of natural images (Olah et al. 2017, "Feature Visualization"): rows are the decorrelated
# channels (light, red-blue, green-purple), columns are R, G, B.
COLOUR = torch.tensor(
    [
        [0.56282854, 0.58447580, 0.58447580],
        [0.19482528, 0.00000000, -0.19482528],
        [0.04329450, -0.10823626, 0.06494176],
    ],
    dtype=torch.float64,
)
FALLBACK_SLOPE = -1.3  # log amplitude per log frequency of photographs
PIXEL_MARGIN = 0.02  # pixels are kept this far from 0 and 1, where the logit is infinite
PHASE_EPS = 1e-4


def decorrelate(pixels: Tensor) -> Tensor:
    """Invert the colour step of `render`: RGB in 0..1 to the space in which the spectrum is fixed.

    Shapes: pixels [..., 3, h, w] -> [..., 3, h, w], float64.
    """
    logits = torch.logit(pixels.double(), eps=PIXEL_MARGIN)  # (..., rgb, rows, columns)
    return torch.einsum("...rhw,rc->...chw", logits, torch.linalg.inv(COLOUR))


def magnitude_spectrum(images: Iterable[Tensor]) -> Tensor:
    """Mean amplitude over images, scaled so that a rendered image has unit variance around its mean colour.

    The zero frequency holds the mean strength of the images' mean colours: how far a render's may be from grey.

    Shapes: each image [3, h, h], RGB in 0..1 -> [3, h, h//2 + 1], float64.
    Raises `UserError` when there is no image.
    """
    total, count = torch.zeros(0), 0
    for image in images:
        spectrum = torch.fft.rfft2(decorrelate(image))  # (channel, row frequency, column frequency)
        total = spectrum.abs() + (total if count else 0)
        count += 1
    if not count:
        raise UserError(
            "The magnitude spectrum is the mean over the run's images, but no image was given. "
            "Check data/images/val.parquet, or use `fallback_spectrum`."
        )
    return unit_contrast(total / count)


def fallback_spectrum(size: int) -> Tensor:
    """Analytic magnitude, frequency ** -1.3 in all channels, for when no image is at hand.

    The zero frequency, the mean colour, is as strong as the lowest other one.

    Shapes: -> [3, size, size//2 + 1], float64.
    """
    rows, columns = torch.fft.fftfreq(size).double(), torch.fft.rfftfreq(size).double()
    frequency = torch.hypot(rows[:, None], columns[None, :])  # (rows, columns), cycles per pixel
    magnitude = frequency.clamp(min=1.0 / size) ** FALLBACK_SLOPE
    return unit_contrast(magnitude.expand(3, -1, -1).clone())


def unit_contrast(magnitude: Tensor) -> Tensor:
    """Scale a spectrum so that its image varies by 1 around its mean colour, over all channels (Parseval).

    MACO standardises every image after the inverse transform; with an exactly fixed magnitude that factor is a
    constant, so it is applied here once.

    Shapes: [3, h, h//2 + 1] -> the same. Raises `UserError` when the images were all of one flat colour.
    """
    size = magnitude.shape[-2]
    twice = torch.full((magnitude.shape[-1],), 2.0, dtype=magnitude.dtype)  # a column stands for its mirror too
    twice[0] = 1.0
    if size % 2 == 0:
        twice[-1] = 1.0
    power = magnitude.square() * twice  # (channel, row frequency, column frequency)
    power[:, 0, 0] = 0.0
    variance = power.sum() / (3 * size**4)
    if not float(variance) > 0:
        raise UserError(
            "The images have no contrast: every pixel has the same colour, so there is no spectrum to keep. "
            "Check the image index, or use `fallback_spectrum`."
        )
    return magnitude / variance.sqrt()


def initial_phase(size: int, generator: torch.Generator) -> Tensor:
    """Standard normal phases, the start that all concepts and all models share.

    Shapes: -> [3, size, size//2 + 1], float32.
    """
    return torch.randn(3, size, size // 2 + 1, generator=generator)


def spectrum_of(phase: Tensor, magnitude: Tensor) -> Tensor:
    """Complex half spectrum with exactly the given magnitude, but for the zero frequency.

    Phases are standardised per image (the step size of the optimiser then shrinks by itself, as in MACO) and made
    odd in the columns that hold both a frequency and its mirror; otherwise `irfft2` would change the magnitude.
    The zero frequency is real: as in MACO its phase sets the mean colour, from minus to plus its magnitude.

    Shapes: phase [..., 3, h, h//2 + 1], magnitude [3, h, h//2 + 1] -> [..., 3, h, h//2 + 1], complex.
    """
    centred = phase - phase.mean(dim=(-3, -2, -1), keepdim=True)
    angle = centred / (phase.std(dim=(-3, -2, -1), keepdim=True) + PHASE_EPS)
    mirrored = torch.roll(angle.flip(-2), 1, dims=-2)  # (..., channel, minus row frequency, column frequency)
    both = torch.zeros(phase.shape[-1], dtype=torch.bool, device=phase.device)
    both[0] = True
    if phase.shape[-2] % 2 == 0:
        both[-1] = True
    colour = torch.zeros_like(both).expand(phase.shape[-2:]).clone()
    colour[0, 0] = True  # (row frequency, column frequency)
    angle = torch.where(both & ~colour, (angle - mirrored) / 2, angle)
    return torch.complex(magnitude * torch.cos(angle), magnitude * torch.sin(angle))


def render(phase: Tensor, magnitude: Tensor) -> Tensor:
    """Phases to images: inverse transform, colour correlation, sigmoid.

    Shapes: phase [..., 3, h, h//2 + 1], magnitude [3, h, h//2 + 1] -> [..., 3, h, h], RGB in 0..1.
    """
    size = phase.shape[-2]
    channels = torch.fft.irfft2(spectrum_of(phase, magnitude), s=(size, size))  # (..., channel, rows, columns)
    colour = COLOUR.to(channels)
    return torch.sigmoid(torch.einsum("...chw,cr->...rhw", channels, colour))  # (..., rgb, rows, columns)
