"""What a params.yaml asks for, before anything runs: faults, what to know, and sizes (`usae check`, `usae start`).

Sections without faults are looked at even where others have some, so that everything comes at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import torch

from usae.activations.commands.catalogue import entries
from usae.activations.store import store_root
from usae.activations.store.location import check_free
from usae.activations.store.manifests import UNTRAINED
from usae.backbones.outline import outline
from usae.backbones.shapes import Outline, finest, grid_fault
from usae.common.errors import UserError
from usae.common.files.whole import size_text
from usae.common.params import (
    ControlsParams,
    ExtractParams,
    ImagesParams,
    ModelParams,
    Params,
    RuntimeParams,
    faults_of,
    parse_params,
    part_of,
)
from usae.common.params.checks import DEVICE
from usae.common.runtime.amounts import fewer
from usae.common.runtime.device import configure
from usae.images.survey import Survey, survey

FEW_TOKENS = 20  # training tokens for each concept
T = TypeVar("T")


@dataclass
class Outlook:
    """faults: what would end a run. notes: what to know before it. facts: what there is. All are sentences."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def ask(self, question: Callable[[], T], where: str = "") -> T | None:
        """The answer, or None and a fault more."""
        try:
            return question()
        except UserError as error:
            self.faults.append(f"{where}{error}")
            return None


def outlook(raw: Any) -> Outlook:
    """The outlook of a params.yaml given as plain values; no weights are downloaded, nothing is written."""
    seen, sections = Outlook(faults_of(raw)), raw if isinstance(raw, dict) else {}
    params = None if seen.faults else parse_params(raw)
    images, extract, runtime = (
        part_of(ImagesParams, sections.get("images")),
        part_of(ExtractParams, sections.get("extract")),
        part_of(RuntimeParams, sections.get("runtime")),
    )
    pictures = _images(images, seen) if images else None
    networks = _networks(_models(sections), seen)
    if extract and networks:
        _grid(extract.grid, networks, seen)
    if extract and runtime and networks and pictures:
        _disk(networks, pictures.sizes, _untrained(sections, pictures.sizes), extract, runtime, seen)
    if runtime and DEVICE.fullmatch(runtime.device) and (device := seen.ask(partial(configure, runtime))):
        seen.facts.append(f"device: {device_text(device)}")
    if params and pictures:
        seen.notes += _amounts(params, pictures.sizes["train"])
    return seen


def device_text(device: torch.device) -> str:
    """'cpu', or which GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _models(sections: Mapping[str, Any]) -> dict[str, ModelParams]:
    """Entries of the zoo without faults that `models` names."""
    zoo, slugs = sections.get("zoo"), sections.get("models")
    if not isinstance(zoo, dict) or not isinstance(slugs, list | tuple):
        return {}
    models = {slug: part_of(ModelParams, zoo.get(slug)) for slug in map(str, slugs)}
    return {slug: model for slug, model in models.items() if model and _names_one(model)}


def _names_one(model: ModelParams) -> bool:
    return (model.backbone.timm is None) != (model.backbone.factory is None)


def _images(params: ImagesParams, seen: Outlook) -> Survey | None:
    pictures = None if params.source != "shapes" and not params.path else seen.ask(partial(survey, params))
    if pictures:
        seen.facts.append(f"images: {pictures}")
    if pictures and pictures.unreadable:
        seen.notes.append(
            f"{pictures.unreadable} of {pictures.unreadable + len(pictures.sides)} images that were looked at are "
            "no images by their header; they will be left out, and data/images says why (column `fault`)."
        )
    return pictures


def _networks(models: Mapping[str, ModelParams], seen: Outlook) -> dict[str, Outline]:
    """The outlines of those that can be built; what is to be said of each, and of equal ones."""
    answers = {slug: seen.ask(partial(outline, model), f"`zoo.{slug}`: ") for slug, model in models.items()}
    networks = {slug: found for slug, found in answers.items() if found}
    seen.facts += [f"{slug}: {found}, weights {models[slug].backbone.weights}" for slug, found in networks.items()]
    seen.notes += [
        f"`{slug}` has random weights: what is found in it says nothing of a trained network."
        for slug, model in models.items()
        if model.backbone.weights == "random"
    ]
    seen.notes += [
        f"`{one}` and `{other}` are copies: the same layer of the same network with the same weights. That they "
        "agree says nothing; leave one out of `models`."
        for one, other in combinations(models, 2)
        if models[one] == models[other]
    ]
    return networks


def _grid(grid: int, networks: Mapping[str, Outline], seen: Outlook) -> None:
    """Maps are resampled to the common grid; beyond the finest of them that adds size and no detail."""
    slug = finest(networks)
    if fault := grid_fault(grid, networks):
        seen.faults.append(fault)
    elif grid > networks[slug].side:
        native = f"{networks[slug].rows} x {networks[slug].columns} (`{slug}`)"
        seen.notes.append(f"`extract.grid` is {grid}, finer than the finest map, {native}: that adds no detail.")


def _untrained(sections: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """Images that networks with random weights are asked for."""
    controls = part_of(ControlsParams, sections.get("controls"))
    most = controls.images if controls else None
    return sizes["val"] + min(most or sizes["train"], sizes["train"])


def _disk(
    networks: Mapping[str, Outline],
    sizes: Mapping[str, int],
    untrained: int,
    extract: ExtractParams,
    runtime: RuntimeParams,
    seen: Outlook,
) -> None:
    """Every network is extracted twice, as given and with random weights; what is there already needs no room."""
    width, images = sum(found.width for found in networks.values()), sum(sizes.values())
    need = (images + untrained) * extract.grid**2 * width * np.dtype(extract.dtype).itemsize
    root = store_root(runtime.store)
    there = sum(entry.files for entry in entries(root, {}) if entry.model.removeprefix(UNTRAINED) in networks)
    have = seen.ask(partial(check_free, max(0, need - there), root))
    seen.facts.append(
        f"tokens: {extract.grid} x {extract.grid} an image, {images * extract.grid**2} of each model"
    )
    if have is not None:
        seen.facts.append(f"stores: {size_text(need)} below {root} ({size_text(have)} are free there)")


def _amounts(params: Params, train: int) -> list[str]:
    """Where more training images are asked for than there are, and concepts than tokens can teach."""
    asked = {
        "extract.statistics_images": params.extract.statistics_images,
        "encode.train_images": params.encode.train_images,
        "methods.images": params.methods.images,
        "controls.images": params.controls.images,
        "interventions.readout_images": params.interventions.readout_images,
        "interventions.onboarding_images": max(params.interventions.onboarding_images),
    }
    tokens = train * params.extract.grid**2
    notes = [sentence for key, images in asked.items() if (sentence := fewer(key, images, train))]
    if tokens < FEW_TOKENS * params.train.dictionary:
        notes.append(
            f"`train.dictionary` is {params.train.dictionary} for {tokens} training tokens of each model, fewer "
            f"than {FEW_TOKENS} tokens a concept. Take more images or fewer concepts."
        )
    return notes
