"""`params.yaml` as typed, frozen objects: the one place where a stage reads its settings.

`params.yaml` and the files in `presets/` name every key; the field comments here and there say the same.
Unknown keys fail with the closest known one, and all faults are reported together.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usae.errors import UserError

PARAMS_FILE = Path("params.yaml")
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")
TRACKER = re.compile(r"(tensorboard|wandb):.+")
RESERVED_SLUGS = ("mean", "usae", "independent")

Count = Annotated[int, Field(ge=1)]
Sample = Annotated[int, Field(ge=10)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fit = Literal["squash", "center"]  # the whole image squashed to a square (paper) | the centre cut out
Pairs = Literal["matched", "shuffled"]  # shuffled re-pairs the images between models: a control
Order = Literal["after", "before"]  # statistics of tokens resampled to the common grid | not yet (official)
Share = Annotated[float, Field(gt=0, lt=1)]
ShareOrAll = Annotated[float, Field(gt=0, le=1)]
ShareOrNone = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of `params.yaml`: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ImagesParams(Section):
    """Which images, and how many of them."""

    source: Literal["shapes", "folder", "parquet"]  # generated world | image folder | Parquet with bytes
    path: str | None  # folder or Parquet file(s); null for shapes
    train: Count | None  # most training images, drawn by seed; null = all
    val: Count | None  # most held-out images, drawn by seed; null = all
    val_share: Share  # held out by seed where the source has no val split of its own


class BackboneParams(Section):
    """How to build one pretrained network and where its weights come from."""

    timm: str | None = None  # full timm name with its tag
    factory: str | None = None  # "module:callable" or "file.py:callable" for any torch module
    kwargs: dict[str, Any] = {}  # arguments of either
    replace: dict[str, str] = {}  # submodule path -> "module:callable" put in its place after building
    weights: str  # hub | random | shipped:OBJECTIVE | pretrain:OBJECTIVE | path of a checkpoint
    size: Count | None = None  # input pixels per side; null = the network's own
    mean: tuple[float, float, float] | None = None  # normalisation; null = the network's own
    std: tuple[float, float, float] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None


class ModelParams(Section):
    """One entry of the zoo: a backbone and the layer whose activations are read."""

    backbone: BackboneParams
    layer: int  # index into the network's blocks (or stages), negative from the end
    norm: bool  # apply the network's final norm to it, where it has one


class ExtractParams(Section):
    """One token grid and one geometry for all models."""

    grid: Count  # tokens per side of the common grid (paper: 14)
    fit: Fit
    dtype: Literal["float16", "float32"]  # of the activation stores
    chunk_images: Count | None  # images per chunk file; null = 16 to 64 MB a file
    statistics_images: Count | None  # images behind the scalar mean and std (paper: 1000); null = all
    statistics: Order  # after: of the stored tokens | before: of the layer's own
    precision: Literal[
        "float32", "bfloat16"
    ]  # of the forward pass; bfloat16 is refused where it moves activations


class TrainParams(Section):
    """The universal SAE and its recipe; each switch is documented in docs/methods.md."""

    dictionary: Count  # concepts (paper: 6144)
    epochs: Count
    batch_images: Count  # images per step, each with all its tokens (official: 32)
    learning_rate: Positive
    final_learning_rate: Positive
    warmup_epochs: NonNegative
    weight_decay: NonNegative
    clip_norm: Positive
    standardize: Literal["scalar", "channel"]  # one mean and std for all channels (official) | for each
    gain: Literal["unit", "width"]  # norm of decoded concepts: 1 (official) | root of the width over its mean
    init: Literal["random", "paired"]  # official | every concept starts at one token, the same in all models
    update: Literal["source", "all"]  # which decoders step: the source's (official) | all
    loss: Literal["l1", "l2", "frobenius"]  # mean |error| (official) | mean error^2 | its norm (paper eq. 5)
    aux: Literal["multi_topk", "dead", "none"]  # a denser code's loss (official) | dead concepts fit residuals
    aux_weight: NonNegative
    aux_codes: Count  # most dead concepts per token
    dead_after: Count  # steps without firing, as the source, after which a concept is dead
    precision: Literal["float32", "mixed"]  # mixed: decoding in bfloat16
    schedule: Literal["per_model", "global"]  # a model's own updates drive its rate (official) | the step does
    pairs: Pairs
    window_images: Count | None  # shuffle within so many images, read chunk by chunk; null = the whole set
    shuffle_tokens: bool  # a batch is tokens of many images, instead of whole images


class ControlsParams(Section):
    """SAEs beside the universal one, of the same recipe and budget, that show what its numbers are worth."""

    seeds: int = Field(ge=0)  # further runs that start elsewhere: is a concept found again?
    k: tuple[Count, ...] | None  # further runs with these in place of the top-level k; null = none


class EncodeParams(Section):
    """What is turned into sparse codes: always all held-out images, and some training images."""

    train_images: Count  # training images encoded beside the held-out ones


class MeasureParams(Section):
    """Thresholds and sizes of the metrics."""

    threshold: NonNegative  # tau: a concept fires where its code exceeds this (official: 0.1)
    exemplars: Count  # top images kept per concept and ranking
    permutations: Count  # of the images, per null of the co-fire counts


class WorldParams(Section):
    """Planted concepts: how many of each kind, and what makes them hard to tell apart (usae/planted.py)."""

    widths: tuple[Count, ...] = Field(min_length=2)  # activation width of each model
    grid: Count  # tokens per side
    shared: Count  # concepts of all models
    pairwise: int = Field(ge=0)  # concepts of each two models
    private: int = Field(ge=0)  # concepts of each one model
    twins: int = Field(ge=0)  # groups of private concepts, one per model, that come together
    rho: ShareOrNone  # chance that a twin comes where one of another model does
    snr: Positive  # expected power of the concepts over that of the noise
    position_pull: ShareOrNone  # chance that a concept keeps to its place: a confound
    classes: Count  # classes of images
    class_pull: ShareOrNone  # how far a concept keeps to its class: a confound

    @property
    def concepts(self) -> int:
        """Planted concepts, all kinds together."""
        models = len(self.widths)
        pairs = models * (models - 1) // 2
        return self.shared + pairs * self.pairwise + models * (self.private + self.twins)


class PlantedParams(Section):
    """Known concepts in generated activations, and an SAE that looks for them; the recipe is `train`'s."""

    world: WorldParams
    train: Count  # training images
    val: Count  # held-out images
    k: Count  # in place of the top-level k
    dictionary: Count  # these four in place of `train`'s
    epochs: Count
    batch_images: Count
    learning_rate: Positive
    permutations: Count  # re-pairings of the held-out images behind the lift's p-values


class OodParams(Section):
    """Images of another kind for the finished universal SAE."""

    images: str | None  # negatives of the held-out images | path of an image folder | null = none
    most: Count  # most images, of this kind and, beside them, held out


class InterventionsParams(Section):
    """Readouts of labels, and a model that joins a finished universal SAE."""

    readout_images: Count  # most training images that label readouts learn from
    held_out: str | None  # slug of the model that joins late; null = the last of `models`
    onboarding_images: tuple[Sample, ...] = Field(min_length=1)  # training images it learns from, one fit each


class MaximiseParams(Section):
    """Coordinated activation maximisation (MACO) of chosen concepts."""

    rule: Literal[
        "funnel", "energy", "entropy", "ids"
    ]  # shared, best first | strongest | each model's own | listed
    concepts: int = Field(ge=0)  # how many; 0 = none
    ids: tuple[int, ...] | None  # for rule: ids, in place of `concepts`
    starts: Count  # pictures of each concept and model from different random phases, for repeatability
    random: int = Field(ge=0)  # random directions maximised in the same way: the control
    score: Literal["mean", "max", "centre"]  # of a concept over the tokens of a picture
    steps: Count
    crops: Count  # random crops per step
    size: Count  # pixels per side of the optimised image
    learning_rate: Positive
    crop_side: tuple[ShareOrAll, ShareOrAll]  # range of a crop's side, as a share of the image
    noise: NonNegative  # standard deviation of the noise added to crops
    spectrum: Literal["images", "analytic"]  # fixed magnitudes: the mean of the run's images | frequency ** -1.3
    total_variation: NonNegative  # weight of |differences| of neighbouring pixels (paper eq. 8); 0 = none
    l2: NonNegative  # weight of the squared distance from grey (paper eq. 8); 0 = none


class ReportParams(Section):
    """What `reports/index.html` shows."""

    concepts: Count  # concept cards with images, by universality
    unique: int = Field(ge=0)  # further cards of concepts that only one model has, per model
    images: Count  # images per card, at most measure.exemplars
    own_images: int = Field(ge=0)  # further images per card and model: those that the model ranks highest
    thumbnail: int = Field(ge=16)  # pixels per side of an image
    megabytes: Positive  # most that the page may have


class RuntimeParams(Section):
    """Where and how fast; in no stage's `params:`, since none of it changes a result's meaning."""

    device: str  # auto | cpu | cuda | cuda:1
    threads: Count | None  # CPU threads of torch; null = torch's choice
    batch_images: Count  # images per forward pass when extracting and encoding
    workers: Count  # threads that decode images
    store: str  # root of the activation stores; relative = inside the main checkout; $USAE_STORE overrides
    resident: Literal["auto", "never", "always"]  # training set in the device's memory; auto: a GPU with room
    processes: Count  # that train together under torchrun, one a GPU
    dask: str | None  # null = in this process | local:N worker processes | tcp://HOST:PORT | a scheduler file
    checkpoint_minutes: NonNegative  # between checkpoints of a training run; 0 = after every step
    tracker: str | None  # live curves: null | tensorboard:FOLDER | wandb:PROJECT


class Params(Section):
    """Everything in `params.yaml`."""

    k: Count  # concepts kept per token (official: 32)
    seed: int = Field(ge=0)
    models: tuple[str, ...]  # slugs of the zoo, in order
    images: ImagesParams
    extract: ExtractParams
    train: TrainParams
    controls: ControlsParams
    encode: EncodeParams
    measure: MeasureParams
    planted: PlantedParams
    ood: OodParams
    interventions: InterventionsParams
    maximise: MaximiseParams
    report: ReportParams
    runtime: RuntimeParams
    zoo: dict[str, ModelParams]


def load_params(path: Path = PARAMS_FILE) -> Params:
    """The settings in `path`.

    Raises:
        UserError: the file is missing, is not YAML, or holds faults; all faults are listed.
    """
    if not path.is_file():
        raise UserError(
            f"The settings file '{path}' does not exist here ({Path.cwd()}). "
            "Run from the repository's root, or copy one: cp presets/demo.yaml params.yaml"
        )
    try:
        return parse_params(yaml.safe_load(path.read_text()), str(path))
    except yaml.YAMLError as error:
        raise UserError(f"'{path}' is not valid YAML: {error}") from error


def parse_params(raw: Any, origin: str = "params") -> Params:
    """Validate a plain mapping (see `load_params`)."""
    try:
        params = Params.model_validate(_tuples(raw))
    except ValidationError as error:
        raise UserError.listing(f"'{origin}' has faults:", _sentences(error)) from error
    if faults := list(_cross_faults(params)):
        raise UserError.listing(f"'{origin}' has faults:", faults)
    return params


def _tuples(value: Any) -> Any:
    """YAML knows lists only; the frozen sections hold tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _sentences(error: ValidationError) -> list[str]:
    """One sentence for each of pydantic's findings."""
    sentences = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "the file"
        if fault["type"] == "extra_forbidden":
            sentences.append(_unknown_key(tuple(str(part) for part in fault["loc"])))
        elif fault["type"] == "missing":
            sentences.append(f"`{key}` is missing; presets/ has files with every key.")
        else:
            sentences.append(f"`{key}`: {fault['msg'].lower()}, found {fault['input']!r}.")
    return sentences


def _unknown_key(location: tuple[str, ...]) -> str:
    """'`train.epoch` is not a parameter; did you mean `train.epochs`?' with the known keys."""
    known = _known_keys(location[:-1])
    close = difflib.get_close_matches(location[-1], known, n=1)
    prefix = ".".join(location[:-1])
    guess = f" Did you mean `{'.'.join(filter(None, [prefix, close[0]]))}`?" if close else ""
    return f"`{'.'.join(location)}` is not a parameter.{guess} Known here: {', '.join(known)}."


def _known_keys(location: tuple[str, ...]) -> list[str]:
    """The keys allowed at a place in the file."""
    if location[:1] == ("zoo",):
        section: type[BaseModel] = BackboneParams if location[-1] == "backbone" else ModelParams
    else:
        section = Params
        for part in location:
            annotation = section.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    return sorted(section.model_fields)


def _cross_faults(params: Params) -> list[str]:
    """Faults between keys."""
    faults = [_slug_fault(slug) for slug in (*params.models, *params.zoo) if _slug_fault(slug)]
    faults += [_stranger(slug, params) for slug in params.models if slug not in params.zoo]
    if not params.models:
        faults.append("`models` is empty; name at least one slug of `zoo`, for example [vit].")
    if repeated := sorted({slug for slug in params.models if params.models.count(slug) > 1}):
        faults.append(f"`models` names {', '.join(repeated)} more than once; name each model once.")
    if params.k > params.train.dictionary:
        faults.append(
            f"`k` is {params.k} but the dictionary has only {params.train.dictionary} concepts; "
            "lower `k` or raise `train.dictionary`."
        )
    if (window := params.train.window_images) is not None and window < params.train.batch_images:
        faults.append(
            f"`train.window_images` is {window}, less than one batch (`train.batch_images: "
            f"{params.train.batch_images}`); set it to thousands of images, or to null for the whole set."
        )
    faults += _controls_faults(params)
    faults += _planted_faults(params.planted)
    if (late := params.interventions.held_out) is not None and late not in params.models:
        faults.append(
            f"`interventions.held_out` is '{late}', which is not in `models`; known there: "
            f"{', '.join(params.models)}. null is the last of them."
        )
    if params.images.source != "shapes" and params.images.path is None:
        faults.append(
            f"`images.path` is empty, but `images.source: {params.images.source}` reads from there; "
            "give the path of the images, or set `images.source: shapes`."
        )
    if params.maximise.crop_side[0] > params.maximise.crop_side[1]:
        faults.append(
            f"`maximise.crop_side` should go from small to large, found {list(params.maximise.crop_side)}."
        )
    if params.maximise.rule == "ids" and not params.maximise.ids:
        faults.append(
            "`maximise.rule: ids` takes the concepts that `maximise.ids` lists, found none; for example [12, 40]."
        )
    if params.report.images > params.measure.exemplars:
        faults.append(
            f"`report.images` is {params.report.images}, but `measure.exemplars` keeps only "
            f"{params.measure.exemplars}; lower the one or raise the other."
        )
    if params.runtime.tracker is not None and not TRACKER.fullmatch(params.runtime.tracker):
        faults.append(
            f"`runtime.tracker` is '{params.runtime.tracker}'; expected null, tensorboard:FOLDER or wandb:PROJECT."
        )
    return faults + [fault for slug, model in params.zoo.items() for fault in _backbone_faults(slug, model)]


def _controls_faults(params: Params) -> list[str]:
    wanted = params.controls.k or ()
    wide = [k for k in wanted if k > params.train.dictionary]
    same = [k for k in wanted if k == params.k or wanted.count(k) > 1]
    faults = [f"`controls.k` has {k}, more than the {params.train.dictionary} concepts there are." for k in wide]
    if same:
        faults.append(f"`controls.k` repeats {same[0]}; name each k once, and not the top-level `k` ({params.k}).")
    return faults


def _planted_faults(planted: PlantedParams) -> list[str]:
    faults = []
    if planted.dictionary < max(planted.world.concepts, planted.k):
        faults.append(
            f"`planted.dictionary` is {planted.dictionary}, but `planted.world` has {planted.world.concepts} "
            f"concepts and `planted.k` is {planted.k}; raise it, or plant fewer."
        )
    if planted.batch_images > planted.train:
        faults.append(
            f"`planted.batch_images` is {planted.batch_images}, but `planted.train` is {planted.train}; lower it."
        )
    return faults


def _slug_fault(slug: str) -> str:
    if slug in RESERVED_SLUGS:
        return f"The slug '{slug}' is reserved (it names rows in the reports); choose another."
    if slug.startswith("untrained-"):
        return f"The slug '{slug}' is reserved (it names a network with random weights); choose another."
    if SLUG.fullmatch(slug):
        return ""
    return f"The slug '{slug}' should be lower-case letters, digits, '-' and '_' (it names files and stages)."


def _stranger(slug: str, params: Params) -> str:
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
