"""An entry of the zoo for a timm name, with its weights' tag, arguments and last layer (`usae start`)."""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from usae.backbones.networks.timm_import import timm
from usae.backbones.outline import outline
from usae.backbones.shapes import Outline
from usae.backbones.weights.checkpoints import read_checkpoint
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ModelParams

USUAL, LARGE = 224, 400  # pixels: a network whose own size is beyond the second is asked with the first
SIZES = re.compile(r"_(patch|window)?[0-9]+(?=_|$)")  # what in a name says sizes


@dataclass(frozen=True)
class ZooEntry:
    """An entry of the zoo, and what its network gives."""

    model: ModelParams
    outline: Outline


def entry_of(wanted: str) -> ZooEntry:
    """The entry for NAME (weights of the hub), NAME=PATH (of a checkpoint) or NAME=random.

    Raises:
        UserError: no such network, no such weights, or it gives no feature maps.
    """
    name, _, given = wanted.partition("=")
    config, weights = timm.get_pretrained_cfg(name), given or "hub"
    if config is None or weights == "random":
        return _first_that_works(name, weights, _sized(config))
    if weights == "hub":
        return _first_that_works(f"{config.architecture}.{config.tag}".rstrip("."), weights, _sized(config))
    return _first_that_works(name, weights, [{"num_classes": _classes(Path(weights), config.classifier)}])


def slug_of(name: str) -> str:
    """A short name for a timm name: the architecture without its sizes."""
    return SIZES.sub("", name.split(".")[0].lower())[:48]


def _sized(config: Any) -> list[dict[str, Any]]:
    """Arguments to try: without a head, and of a network for large images the usual size first."""
    plain: dict[str, Any] = {"num_classes": 0}
    large = config is not None and config.input_size[-1] > LARGE
    return [{"img_size": USUAL, **plain}, plain] if large else [plain]


def _classes(checkpoint: Path, classifier: Any) -> int:
    """How many classes the checkpoint's head has; 0 without one."""
    head = read_checkpoint(checkpoint).get(f"{classifier}.weight")
    return 0 if head is None else len(head)


def _first_that_works(name: str, weights: str, kwargs: list[dict[str, Any]]) -> ZooEntry:
    """Through the final norm where that can be had, else as the last layer is."""
    faults = []
    for arguments, norm in product(kwargs, (True, False)):
        backbone = BackboneParams(timm=name, kwargs=arguments, weights=weights)
        model = ModelParams(backbone=backbone, layer=-1, norm=norm)
        try:
            return ZooEntry(model, outline(model))
        except UserError as error:
            faults.append(error)
    raise faults[-1]
