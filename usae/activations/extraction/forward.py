"""A backbone's forward pass as stage `extract` runs it: bytes in, tokens of the store's type out.

On a GPU nothing here waits: a batch is copied, computed and reduced while the previous one is fetched.
`extract.precision: bfloat16` (autocast, channels last) is refused where it moves the activations by more than
`PRECISION_BOUND` of their variance.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from usae.activations.extraction.pixels import Pixels
from usae.activations.extraction.statistics import image_moments
from usae.backbones.networks.backbone import Backbone
from usae.backbones.networks.feature_maps import REFUSALS, to_grid
from usae.common.errors import UserError
from usae.common.params import ExtractParams
from usae.images.pixels.geometry import Square

PRECISION_BOUND = 1e-3  # squared change over variance; an SAE leaves a hundred times as much unexplained


@dataclass(frozen=True)
class Features:
    """What a batch gave; on a GPU perhaps still being computed.

    tokens: [b, tokens, d] in the store's type. largest: [b] largest absolute value. native: [b, 2, d] moments
    before resampling, None where there is none.
    """

    tokens: Tensor
    largest: Tensor
    native: Tensor | None


@dataclass(frozen=True)
class Forward:
    """A backbone on its device, and how its layer is brought to the common grid."""

    backbone: Backbone
    params: ExtractParams
    device: torch.device

    @property
    def square(self) -> Square:
        """The pixels that the network wants of an image."""
        identity = self.backbone.identity
        return Square(identity.size, self.params.fit, identity.interpolation)

    @functools.cached_property
    def native_shape(self) -> tuple[int, int, int]:
        """[d, rows, columns] of the layer's own map of one image."""
        size = self.backbone.size
        with torch.inference_mode():
            _, d, rows, columns = self._maps(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape
        return d, rows, columns

    @property
    def resampled(self) -> bool:
        """Whether the layer's own grid differs from the common one."""
        return self.native_shape[1:] != (self.params.grid, self.params.grid)

    def __call__(self, pixels: UInt8[Tensor, "b 3 size size"]) -> Features:
        """Start the forward pass of a batch."""
        return forward_pass([self], {self.square: pixels})[0]

    def features(self, maps: Float[Tensor, "b d rows columns"]) -> Features:
        """What is stored of the layer's own maps."""
        native = image_moments(maps) if self.resampled else None  # (b, 2, d)
        tokens = to_grid(maps, self.params.grid)  # (b, tokens, d)
        largest = torch.linalg.vector_norm(tokens, torch.inf, dim=(1, 2))  # (b)
        return Features(tokens.to(getattr(torch, self.params.dtype)), largest, native)

    def check_precision(self, model: str, pixels: UInt8[Tensor, "b 3 size size"]) -> float:
        """How far reduced precision moves the activations of `pixels`, as a share of their variance.

        Raises:
            UserError: by more than the bound.
        """
        with torch.inference_mode():
            exact, reduced = self._maps(pixels, "float32"), self._maps(pixels)
            variance = (exact - exact.mean((0, 2, 3), keepdim=True)).square().sum()
            moved = float((reduced - exact).square().sum() / variance)
        if not moved <= PRECISION_BOUND:
            raise UserError(
                f"In {self.params.precision} the activations of '{model}' move by {moved:.2g} of their variance; "
                f"at most {PRECISION_BOUND:g} is allowed. Set `extract.precision: float32`."
            )
        return moved

    def joint_maps(
        self,
        pixels: UInt8[Tensor, "b 3 size size"],
        layers: Sequence[int | str],
        precision: str | None = None,
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """The own maps [b, d, rows, columns], float32, of several layers of the network, in one pass."""
        reduced = (precision or self.params.precision) == "bfloat16"
        bytes_ = pixels.to(self.device, non_blocking=True)
        rgb = bytes_.to(torch.float32, memory_format=torch.channels_last if reduced else torch.preserve_format)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            return [maps.float() for maps in self.backbone.joint_maps(rgb.div_(255), layers)]

    def _maps(self, pixels: UInt8[Tensor, "b 3 size size"], precision: str | None = None) -> Tensor:
        """The layer's own maps [b, d, rows, columns], float32."""
        return self.joint_maps(pixels, [self.backbone.layer], precision)[0]


def calls(forwards: Sequence[Forward]) -> list[list[int]]:
    """The numbers of those that one call of a network gives, for every call."""
    found: dict[object, list[int]] = {}
    for number, forward in enumerate(forwards):
        found.setdefault(forward.backbone.call, []).append(number)
    return list(found.values())


def forward_pass(forwards: Sequence[Forward], pixels: Pixels) -> list[Features]:
    """Start the forward pass of a batch, a call of each network for all of its layers."""
    features: dict[int, Features] = {}
    with torch.inference_mode():
        for numbers in calls(forwards):
            layers, first = [forwards[number].backbone.layer for number in numbers], forwards[numbers[0]]
            maps = first.joint_maps(pixels[first.square], layers)
            features |= {number: forwards[number].features(own) for number, own in zip(numbers, maps, strict=True)}
    return [features[number] for number in range(len(forwards))]


def joint_fault(forwards: Sequence[Forward], pixels: UInt8[Tensor, "b 3 size size"]) -> str:
    """Why one pass of a network does not give the bits that a pass for each layer gives, or why it gives nothing;
    empty where it does.

    Networks may write over a layer's map while they compute the next one, and ones that are not timm's may answer
    several layers in a way of their own.
    """
    with torch.inference_mode():
        try:
            alone = [forward.joint_maps(pixels, [forward.backbone.layer])[0] for forward in forwards]
            together = forwards[0].joint_maps(pixels, [forward.backbone.layer for forward in forwards])
        except REFUSALS as error:
            return f"{type(error).__name__}: {error}"
    differing = [
        forward.backbone.layer
        for forward, own, joint in zip(forwards, alone, together, strict=True)
        if not torch.equal(own, joint)
    ]
    return f"the activations of layer {differing[0]} are others" if differing else ""
