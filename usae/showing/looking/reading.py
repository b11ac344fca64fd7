"""Pictures of one's own into codes, by the network, layer, geometry and units that an SAE was trained with.

usae.encode_images("distilled", ["dog.jpg"])            # codes (pictures, tokens, k)
usae.heatmap("dog.jpg", concept=196, model="distilled")  # where the concept is in the picture
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from usae.backbones.networks.backbone import Backbone
from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.common.params import Fit
from usae.common.types import Array
from usae.evidence.estimators import load_estimator
from usae.images.pixels.decoding import BadImageError, decode, upright_rgb
from usae.images.pixels.geometry import fit_image
from usae.sae.estimator import Estimator
from usae.sae.hub import folder_of
from usae.sae.sparse import SparseCodes
from usae.showing.figures.heat import heat_rgba, overlay
from usae.showing.looking.networks import backbone_of

Pictured = str | Path | Image.Image  # a file, or what Pillow opened
SAE = Layout().usae
BATCH = 32  # pictures that pass the network together
SIDE = 448  # pixels of a heatmap's picture


@dataclass(frozen=True)
class PictureReader:
    """One model of a saved SAE and the network before it; what `encode_images` opens for every call.

    fit: how a picture becomes the square that the network sees.
    """

    model: str
    estimator: Estimator
    backbone: Backbone
    fit: Fit

    @classmethod
    def open(cls, model: str, sae: str | Path = SAE, device: str | None = None) -> Self:
        """The SAE in the folder `sae`, or of the hub, and the network of `model`; device None: a GPU where one is.

        Raises:
            UserError: there is no such SAE, it knows no such model, or the network cannot be had.
        """
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        folder = folder_of(sae)
        return cls.of(load_estimator(folder).to(where), model, folder)

    @classmethod
    def of(cls, estimator: Estimator, model: str, folder: Path) -> Self:
        """The same, of an SAE that is open; `folder` is where it lies."""
        estimator.dictionary(model)  # it says which models there are, where this is none of them
        config = getattr(estimator, "config", {})
        backbone = backbone_of(folder, config, model).to(estimator.device)
        return cls(model, estimator, backbone, config["models"][model]["fit"])

    @property
    def grid(self) -> int:
        """Tokens per side."""
        return self.backbone.grid

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Pictured]) -> SparseCodes:
        """Codes of pictures, (pictures, grid * grid, k), on the CPU.

        Raises:
            UserError: a picture cannot be read; there is none.
        """
        parts = [self.estimator.encode({self.model: tokens})[self.model] for tokens in self._tokens(pictures)]
        if not parts:
            raise UserError("There are no pictures to encode; give a list of paths or of Pillow images.")
        return SparseCodes(
            *(torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("indices", "values"))
        )

    def _tokens(self, pictures: Sequence[Pictured]) -> Iterator[torch.Tensor]:
        """Activations (b, grid * grid, d) of every batch."""
        identity = self.backbone.identity
        for start in range(0, len(pictures), BATCH):
            opened = map(open_picture, pictures[start : start + BATCH])
            squares = [fit_image(image, identity.size, self.fit, identity.interpolation) for image in opened]
            pixels = torch.from_numpy(np.stack(squares)).to(self.estimator.device)  # (b, 3, size, size) bytes
            yield self.backbone.tokens(pixels.float() / 255)


@dataclass(frozen=True)
class Heatmap:
    """Where a concept is in a picture. codes (grid, grid) float32; picture: the square that the network saw."""

    codes: Array
    picture: UInt8[np.ndarray, "side side 3"]

    def overlay(self) -> Image.Image:
        """The darkened picture with the codes on top, opaque at the largest of them."""
        heat = heat_rgba(self.codes, float(self.codes.max()))
        return Image.fromarray(overlay(self.picture, heat))


def encode_images(model: str, pictures: Sequence[Pictured], sae: str | Path = SAE) -> SparseCodes:
    """Codes of pictures (files or Pillow images) from `model` of the SAE in the folder `sae`.

    Returns (pictures, grid * grid, k) codes; tokens go row by row. Everything else is what the SAE's config.json
    says. They are the codes of stage `encode` up to the rounding of the activation stores. For many calls, keep a
    `PictureReader` open.

    Raises:
        UserError: see `PictureReader.open` and `PictureReader.encode`.
    """
    return PictureReader.open(model, sae).encode(pictures)


def heatmap(picture: Pictured, concept: int, model: str, sae: str | Path = SAE) -> Heatmap:
    """The codes of one concept at every token of a picture: `.codes`, and `.overlay()` on the picture.

    Raises:
        UserError: as `encode_images`; or there is no such concept.
    """
    reader = PictureReader.open(model, sae)
    if not 0 <= concept < reader.estimator.concepts:
        raise UserError(f"There is no concept {concept}; they are 0 to {reader.estimator.concepts - 1}.")
    codes = concept_map(reader.encode([picture])[0], concept, reader.grid)
    return Heatmap(codes, square(picture, reader.fit))


def concept_map(codes: SparseCodes, concept: int, grid: int) -> Array:
    """(grid, grid) codes of one concept, of an image's (tokens, k)."""
    where = torch.where(codes.indices == concept, codes.values, 0)
    return where.sum(-1).reshape(grid, grid).numpy().astype(np.float32)


def square(picture: Pictured, fit: Fit, side: int = SIDE) -> UInt8[np.ndarray, "side side 3"]:
    """A picture as networks see it, `side` pixels wide."""
    return fit_image(open_picture(picture), side, fit, "bicubic").transpose(1, 2, 0)


def open_picture(picture: Pictured) -> Image.Image:
    """RGB and upright, as every image of a run.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        if isinstance(picture, Image.Image):
            return upright_rgb(picture.copy())
        return decode(Path(picture).read_bytes())
    except (OSError, BadImageError, ValueError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise UserError(f"'{picture}' cannot be read as a picture: {reason}.") from error
