"""One model's activations for both splits, in this process or on a cluster, and their manifest.

Stages `extract` and `untrained`. A finished chunk is never computed again: an interrupted run goes on where it
stopped, and a changed parameter that is changed back finds its old store, since the store's name carries a
fingerprint of all that matters.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usae.activations.extraction.extractor import Extraction, Extractor
from usae.activations.extraction.filling import check_precision, fill
from usae.activations.extraction.forward import calls, joint_fault
from usae.activations.extraction.statistics import channel_moments, sample_moments
from usae.activations.extraction.work import Work, announce
from usae.activations.store import ActivationStore, chunk_images_for, store_root
from usae.activations.store.location import fingerprint
from usae.activations.store.manifests import Manifest, SplitManifest
from usae.activations.store.store import NATIVE_GRID
from usae.backbones.networks.backbone import is_pinned
from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.common.params import ModelParams, Params
from usae.common.runtime.device import configure

REVISION = 2  # raised when the same settings come to give other activations
JOINT_IMAGES = 2  # on which one pass for several layers is compared with a pass for each

log = logging.getLogger("usae")


def extraction_of(params: Params, model: str, name: str, weights: Path, most: int | None = None) -> Extraction:
    """How the layer of the zoo's `model` is read; `name` is that of its stores, `weights` the pinned backbone.

    most: training images that are extracted; None: all.
    """
    return Extraction(
        model=name,
        weights=weights,
        layer=params.zoo[model].layer,
        norm=params.zoo[model].norm,
        images=Layout().images,
        root=params.images.path,
        params=params.extract,
        runtime=params.runtime,
        most=most,
    )


def companions_of(params: Params, model: str) -> list[Extraction]:
    """The other models of the run that `runtime.one_pass` wants to be read together with this one: layers of the
    same backbone, read in the same way, or all whose networks are known already, or none.
    """
    asked, folder, which = params.zoo[model], Layout().weights, params.runtime.one_pass
    if which == "none":
        return []
    known = {slug for slug in params.models if which == "models" and is_pinned(folder / slug)}
    others = [slug for slug in params.models if slug in known or _joint(params.zoo[slug], asked)]
    return [extraction_of(params, slug, slug, folder / slug) for slug in others if slug != model]


def extract(extraction: Extraction, companions: Sequence[Extraction] = ()) -> Manifest:
    """Fill the stores of both splits and return the manifest that describes them.

    companions: models whose stores may be filled in the same pass. What they are, and whether they are there,
    changes no byte of this model's stores, nor of its manifest.

    Raises:
        UserError: images, weights, disk, cluster or activations are not as they should be; what is done is kept.
    """
    extractor = Extractor.load(extraction, configure(extraction.runtime))
    stores = create_stores(extractor)
    works = [[extractor.left(split, store)] for split, store in stores.items()]
    extractors = [extractor]
    if any(work.chunks for (work,) in works):
        for companion, lacking in join(extractor, companions):
            extractors.append(companion)
            for together, work in zip(works, lacking, strict=True):
                together.append(work)
    announce(work for together in zip(*works, strict=True) for work in together)
    fill(extractors, [together for together in works if any(work.chunks for work in together)])
    return describe(extractor, stores)


def join(extractor: Extractor, companions: Sequence[Extraction]) -> list[tuple[Extractor, list[Work]]]:
    """Those of `companions` that are read in one pass with this model, and what their stores lack, by split.

    A network that refuses, or whose layers are others when they are read in one call, is left to their own stages.
    """
    joined = []
    for companion in filter(None, extractor.beside(companions)):
        try:
            works = [companion.left(split, store) for split, store in create_stores(companion).items()]
            if any(work.chunks for work in works):
                check_precision(companion)
                joined.append((companion, works))
        except UserError:  # its own stage says it
            continue
    members, left = [extractor, *(companion for companion, _ in joined)], set[int]()
    for numbers in calls([member.forward for member in members]):
        layers = [members[number] for number in numbers]
        if numbers != [0] and (fault := _joint_fault(layers)):
            names = ", ".join(layer.extraction.model for layer in layers)
            log.info("%s: each has a pass of its own; in one pass %s", names, fault)
            left |= set(numbers)
    return [each for number, each in enumerate(joined, start=1) if number not in left]


def _joint_fault(layers: Sequence[Extractor]) -> str:
    pixels = layers[0].pixels("train", min(JOINT_IMAGES, len(layers[0].images["train"])))
    return joint_fault([layer.forward for layer in layers], pixels)


def create_stores(extractor: Extractor) -> dict[str, ActivationStore]:
    """The stores of both splits."""
    return {split: create_store(extractor, split) for split in extractor.images}


def create_store(extractor: Extractor, split: str) -> ActivationStore:
    """The store of a split, named by model, split and a fingerprint of everything that counts."""
    extraction, identity, index = (
        extractor.extraction,
        extractor.forward.backbone.identity,
        extractor.images[split],
    )
    shape = (len(index), extraction.params.grid**2, extractor.forward.native_shape[0])
    itemsize = np.dtype(extraction.params.dtype).itemsize
    config: dict[str, Any] = {
        "images": index.digest,
        "weights": identity.sha256,
        "pixels": [identity.mean, identity.std, identity.interpolation],
        "size": identity.size,
        "timm": identity.timm_version,
        "layer": extraction.layer,
        "norm": extraction.norm,
        "chunk_images": chunk_images_for(*shape[1:], itemsize, len(index), extraction.params.chunk_images),
        "revision": REVISION,
        **extraction.params.model_dump(include={"grid", "fit", "dtype", "precision"}),
    }
    if extractor.forward.resampled:
        config[NATIVE_GRID] = list(extractor.forward.native_shape[1:])
    if extraction.params.grid == 1:
        config["pooled"] = "mean"
    path = store_root(extraction.runtime.store).absolute() / f"{extraction.model}-{split}-{fingerprint(config)}"
    attributes = {"model": extraction.model, "split": split, "config": config}
    return ActivationStore.create(path, shape, config["chunk_images"], extraction.params.dtype, attributes)


def describe(extractor: Extractor, stores: dict[str, ActivationStore]) -> Manifest:
    """The manifest of the finished stores.

    Raises:
        UserError: chunks and their moments do not belong together.
    """
    for store in stores.values():
        store.refuse_foreign_moments()
    extraction, train = extractor.extraction, stores["train"]
    order = extraction.params.statistics if train.resampled else "after"
    sample, sample_images = sample_moments(train, extraction.params.statistics_images, order)
    if sample.scalar()[1] == 0:
        raise UserError(
            f"'{extraction.model}' gives the same activations everywhere: there is nothing to find in them. "
            "Look at its weights, or choose another `layer`."
        )
    return Manifest.of(
        channel_moments(train, order),
        sample,
        model=extraction.model,
        backbone=dataclasses.asdict(extractor.forward.backbone.identity),
        layer=extraction.layer,
        norm=extraction.norm,
        grid=extraction.params.grid,
        fit=extraction.params.fit,
        dtype=extraction.params.dtype,
        statistics=order,
        statistics_images=sample_images,
        **{split: SplitManifest.of(store, extractor.images[split].digest) for split, store in stores.items()},
    )


def _joint(other: ModelParams, asked: ModelParams) -> bool:
    """Whether one call of the network gives both: layers by number or by path, through the final norm or not."""
    same_way = other.norm == asked.norm and type(other.layer) is type(asked.layer)
    return other.backbone == asked.backbone and same_way
