"""Faults between keys of `params.yaml`, which no single key shows: one function per section."""

import difflib
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from usae.common.params.sections import MOST_MODELS, ModelParams, Params, TrainParams

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # with what comes before and behind it, a file's name
DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")
TRACKER = re.compile(r"(tensorboard|wandb):.+")
METHODS = Path(__file__).parents[2] / "methods"
RESERVED_SLUGS = ("mean", "usae", "independent", "brief", "start", "others")


def cross_faults(params: Params) -> list[str]:
    """Faults between keys, section by section."""
    return [fault for check in CHECKS for fault in check(params)]


def _models_faults(params: Params) -> list[str]:
    slugs, models = (*params.models, *params.zoo), params.models
    faults = [_slug_fault(slug) for slug in slugs if _slug_fault(slug)]
    faults += [_unknown_slug(slug, params) for slug in models if slug not in params.zoo]
    if not models:
        faults.append("`models` is empty; name two slugs of `zoo` or more, for example [vit, resnet].")
    if len(models) == 1:
        faults.append(f"`models` names {models[0]} alone: nothing can be shared; name two slugs of `zoo` or more.")
    if repeated := sorted({slug for slug in models if models.count(slug) > 1}):
        faults.append(f"`models` names {', '.join(repeated)} more than once; name each model once.")
    if len(models) > MOST_MODELS:
        faults.append(
            f"`models` names {len(models)} models, but which of them fire together is counted for at most "
            f"{MOST_MODELS}; name fewer."
        )
    return faults


def _k_faults(params: Params) -> list[str]:
    if params.k <= params.train.dictionary:
        return []
    return [
        f"`k` is {params.k} but the dictionary has only {params.train.dictionary} concepts; "
        "lower `k` or raise `train.dictionary`."
    ]


def _train_faults(params: Params) -> list[str]:
    window, batch = params.train.window_images, params.train.batch_images
    faults = level_faults("train", params.train.levels, params.train.dictionary, params.k)
    if params.train.levels and params.train.aux == "multi_topk":
        faults.append(
            "`train.aux: multi_topk` is defined for one level; set it to none or dead, or `train.levels` to null."
        )
    faults += _archetype_faults(params.train)
    if window is not None and window < batch:
        faults.append(
            f"`train.window_images` is {window}, less than one batch (`train.batch_images: "
            f"{batch}`); set it to thousands of images, or to null for the whole set."
        )
    return faults


def _archetype_faults(train: TrainParams) -> list[str]:
    faults = []
    if train.dictionary_rows == "archetypes" and train.init == "random":
        faults.append(
            "`train.dictionary_rows: archetypes` mixes what concepts start at, but `train.init: random` starts "
            "them at no tokens; set `train.init` to paired or clusters, or `train.dictionary_rows` to free."
        )
    if train.dictionary_rows == "archetypes" and train.update == "source":
        faults.append(
            "`train.dictionary_rows: archetypes` has one mixture for all models, but `train.update: source` moves "
            "one model's dictionary alone; set `train.update: all`, or `train.dictionary_rows` to free."
        )
    return faults


def level_faults(section: str, levels: tuple[int, ...] | None, concepts: int, k: int) -> list[str]:
    """Why a dictionary cannot have these coarse levels with k codes a token; as `usae.sae.levels.Levels` says."""
    ends = [*(levels or ()), concepts]
    sizes = [end - before for before, end in pairwise([0, *ends])]
    if not levels:
        return []
    if min(sizes) < 1:
        return [
            f"`{section}.levels` is {ends[:-1]} and `{section}.dictionary` {concepts}; expected numbers that "
            "increase, all of them below the dictionary."
        ]
    shares = [(level + 1) * k // len(ends) - level * k // len(ends) for level in range(len(ends))]  # as `Levels`
    if all(1 <= share <= size for share, size in zip(shares, sizes, strict=True)):
        return []
    return [
        f"`{section}.levels` makes {len(ends)} levels, the smallest with {min(sizes)} concepts, that share the "
        f"{k} codes of a token; expected at least one code for each level, and no more codes than concepts. "
        f"Change `{section}.levels` or `k`."
    ]


def _controls_faults(params: Params) -> list[str]:
    wanted = params.controls.k or ()
    wide = [k for k in wanted if k > params.train.dictionary]
    same = [k for k in wanted if k == params.k or wanted.count(k) > 1]
    faults = [f"`controls.k` has {k}, more than the {params.train.dictionary} concepts there are." for k in wide]
    for k in sorted(set(wanted) - set(wide)):
        of_k = level_faults("train", params.train.levels, params.train.dictionary, k)
        faults += [f"`controls.k` has {k}: {fault}" for fault in of_k]
    if same:
        faults.append(f"`controls.k` repeats {same[0]}; name each k once, and not the top-level `k` ({params.k}).")
    return faults


def _methods_faults(params: Params) -> list[str]:
    known = {kind: sorted(_methods_with(kind)) for kind in ("start", "fit")}
    wanted = (("trained", params.methods.trained, "start"), ("fitted", params.methods.fitted, "fit"))
    faults = [
        f"`methods.{key}` names '{name}'; known there: {', '.join(known[kind])}."
        + "".join(f" Did you mean '{each}'?" for each in difflib.get_close_matches(name, known[kind], n=1))
        for key, names, kind in wanted
        for name in names
        if name not in known[kind]
    ]
    for key, names, _ in wanted:
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            faults.append(f"`methods.{key}` names {', '.join(repeated)} more than once; name each method once.")
    return faults


def _methods_with(function: str) -> list[str]:
    """Names of the files of `usae/methods/` that define `function`: `start` trains, `fit` does without.

    Read from the text: importing them all would load torch for a check of params.yaml.
    """
    return [file.stem for file in METHODS.glob("*.py") if f"\ndef {function}(" in file.read_text()]


def _planted_faults(params: Params) -> list[str]:
    planted = params.planted
    faults = level_faults("planted", planted.levels, planted.dictionary, planted.k)
    if planted.dictionary < max(planted.world.concepts, planted.k):
        faults.append(
            f"`planted.dictionary` is {planted.dictionary}, but `planted.world` has {planted.world.concepts} "
            f"concepts and `planted.k` is {planted.k}; raise it, or plant fewer."
        )
    models = len(planted.world.widths)
    if planted.world.most and models < 4:
        faults.append(
            f"`planted.world.most` is {planted.world.most}, but all but one of {models} models are at most two; "
            "set it to 0, or give `widths` of more than three models."
        )
    if planted.batch_images > planted.train:
        faults.append(
            f"`planted.batch_images` is {planted.batch_images}, but `planted.train` is {planted.train}; lower it."
        )
    return faults


def _interventions_faults(params: Params) -> list[str]:
    newcomer = params.interventions.held_out
    if newcomer is None or newcomer in params.models:
        return []
    return [
        f"`interventions.held_out` is '{newcomer}', which is not in `models`; known there: "
        f"{', '.join(params.models)}. null is the last of them."
    ]


def _images_faults(params: Params) -> list[str]:
    if params.images.source == "shapes" or params.images.path is not None:
        return []
    return [
        f"`images.path` is empty, but `images.source: {params.images.source}` reads from there; "
        "give the path of the images, or set `images.source: shapes`."
    ]


def _maximise_faults(params: Params) -> list[str]:
    maximise, faults = params.maximise, []
    if maximise.crop_side[0] > maximise.crop_side[1]:
        faults.append(f"`maximise.crop_side` should go from small to large, found {list(maximise.crop_side)}.")
    if maximise.rule == "ids" and not maximise.ids:
        faults.append(
            "`maximise.rule: ids` takes the concepts that `maximise.ids` lists, found none; for example [12, 40]."
        )
    return faults


def _report_faults(params: Params) -> list[str]:
    if params.report.images <= params.measure.exemplars:
        return []
    return [
        f"`report.images` is {params.report.images}, but `measure.exemplars` keeps only "
        f"{params.measure.exemplars}; lower the one or raise the other."
    ]


def _runtime_faults(params: Params) -> list[str]:
    tracker, device, faults = params.runtime.tracker, params.runtime.device, []
    if tracker is not None and not TRACKER.fullmatch(tracker):
        faults.append(f"`runtime.tracker` is '{tracker}'; expected null, tensorboard:FOLDER or wandb:PROJECT.")
    if not DEVICE.fullmatch(device):
        faults.append(f"`runtime.device` is '{device}'; expected auto, cpu, cuda or cuda:NUMBER.")
    return faults


def _zoo_faults(params: Params) -> list[str]:
    return [fault for slug, model in params.zoo.items() for fault in _backbone_faults(slug, model)]


def _slug_fault(slug: str) -> str:
    if slug in RESERVED_SLUGS:
        return f"The slug '{slug}' is reserved (it names rows in the reports); choose another."
    if slug.startswith("untrained-"):
        return f"The slug '{slug}' is reserved (it names a network with random weights); choose another."
    if SLUG.fullmatch(slug):
        return ""
    return f"The slug '{slug}' should be up to 64 lower-case letters, digits, '-' and '_': it names files."


def _unknown_slug(slug: str, params: Params) -> str:
    close = difflib.get_close_matches(slug, params.zoo, n=1)
    guess = f" Did you mean '{close[0]}'?" if close else ""
    return f"`models` names '{slug}', which has no entry under `zoo` (there: {', '.join(params.zoo)}).{guess}"


def _backbone_faults(slug: str, model: ModelParams) -> list[str]:
    backbone = model.backbone
    where = f"`zoo.{slug}.backbone`"
    faults = []
    if (backbone.timm is None) == (backbone.factory is None):
        faults.append(f"{where} should name exactly one of `timm` and `factory`.")
    if backbone.factory is not None and backbone.factory.count(":") != 1:
        faults.append(
            f"{where}.factory is '{backbone.factory}'; expected 'module:callable' or 'file.py:callable'."
        )
    if backbone.weights == "hub" and backbone.timm and "." not in backbone.timm:
        faults.append(
            f"{where}.timm is '{backbone.timm}' without its weight tag; which weights it means changes with "
            "timm's version. Give the full name, for example vit_base_patch16_siglip_224.webli."
        )
    return faults


CHECKS: tuple[Callable[[Params], list[str]], ...] = (  # in the order in which their faults are listed
    _models_faults,
    _k_faults,
    _train_faults,
    _controls_faults,
    _methods_faults,
    _planted_faults,
    _interventions_faults,
    _images_faults,
    _maximise_faults,
    _report_faults,
    _runtime_faults,
    _zoo_faults,
)
