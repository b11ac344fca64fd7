"""`params.yaml` as typed, frozen objects: the one place where a stage reads its settings.

`params.yaml` and the files in `presets/` name every key; the field comments here and there say the same.
Unknown keys fail with the closest known one, and all faults are reported together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_MODELS = 31  # a set of models that fire together is a number of 32 bits with a sign
MOST = 2**31 - 1  # of anything counted: what 32 bits hold
MOST_CONCEPTS = 2**24
LEFT = "left to a full run (`evidence: quick` in params.yaml)"  # what a stage says that a quick run does not ask
Count = Annotated[int, Field(ge=1, le=MOST)]
Concepts = Annotated[int, Field(ge=1, le=MOST_CONCEPTS)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST)]
Sample = Annotated[int, Field(ge=10, le=MOST)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fit = Literal["squash", "center"]  # the whole image squashed to a square (paper) | the centre cut out
Pairs = Literal["matched", "shuffled"]  # shuffled re-pairs the images between models: a control
Order = Literal["after", "before"]  # statistics of tokens resampled to the common grid | not yet (official)
Share = Annotated[float, Field(gt=0, lt=1)]
ShareOrAll = Annotated[float, Field(gt=0, le=1)]
ShareOrNone = Annotated[float, Field(ge=0, le=1)]
Kernels = Literal["auto", "torch"]


class Section(BaseModel):
    """A part of `params.yaml`: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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
    factory: str | None = None  # "module:callable" or "file.py:callable" for any torch module; it is run
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
    layer: int | str  # index of a block or stage, negative from the end; or a module's path, such as layer4
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

    dictionary: Concepts  # concepts (paper: 6144)
    epochs: Count
    batch_images: Count  # images per step, each with all its tokens (official: 32)
    learning_rate: Positive
    final_learning_rate: Positive
    warmup_epochs: NonNegative
    weight_decay: NonNegative
    clip_norm: Positive
    standardize: Literal["scalar", "channel"]  # one mean and std for all channels (official) | for each
    gain: Literal["unit", "width"]  # norm of decoded concepts: 1 (official) | root of the width over its mean
    init: Literal["random", "paired", "clusters"]  # official | at one token, the same in all models | at a cluster
    dictionary_rows: Literal["free", "archetypes"]  # any (official) | the same mixtures of tokens in all models
    levels: tuple[Count, ...] | None  # concepts of all coarse levels up to each one; null = one level (official)
    coarse_rate: ShareOrNone  # learning rate of their encoders, as a share of the others'
    sources: Literal["one", "each", "all"]  # encoded: one model a step (official) | a part of the batch each | all
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
    """SAEs beside the universal one, of the same recipe, that show what its numbers are worth.

    Where they are given less to learn from, a twin of the universal SAE gets as little, and stands beside them.
    """

    seeds: CountOrNone  # further runs that start elsewhere: is a concept found again?
    k: tuple[Count, ...] | None  # further runs with these in place of the top-level k; null = none
    images: Count | None  # training images of what is only a control, the first ones; null = all, as the run
    epochs: Count | None  # its passes over them; null = train.epochs


class MethodsParams(Section):
    """The field's other methods on the same activations; each is a file of `usae/methods/`."""

    trained: tuple[str, ...]  # names of those that are trained; empty = none
    fitted: tuple[str, ...]  # names of those that are fitted without training
    epochs: Count | None  # passes of those that are trained; null = train.epochs
    images: Count | None  # training images that the others are fitted on; null = all
    seeds: CountOrNone  # further starts of each that is trained
    nulls: bool  # also on re-paired images, and on untrained networks


class EncodeParams(Section):
    """What is turned into sparse codes: always all held-out images, and some training images."""

    train_images: Count  # training images encoded beside the held-out ones


class MeasureParams(Section):
    """Thresholds and sizes of the metrics."""

    threshold: NonNegative  # tau: a concept fires where its code exceeds this (official: 0.1)
    agreement: ShareOrNone  # smallest co-fire proportion over models that a shared concept needs
    exemplars: Count  # top images kept per concept and ranking
    permutations: Count  # of the images, per null of the co-fire counts


class WorldParams(Section):
    """Planted concepts: how many of each kind, and what makes them hard to tell apart."""

    widths: tuple[Count, ...] = Field(min_length=2)  # activation width of each model
    grid: Count  # tokens per side
    shared: Count  # concepts of all models
    pairwise: CountOrNone  # concepts of each two models
    most: CountOrNone  # concepts of all models but one, for each one left out; needs more than three models
    private: CountOrNone  # concepts of each one model
    twins: CountOrNone  # groups of private concepts, one per model, that come together
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
        return self.shared + pairs * self.pairwise + models * (self.most + self.private + self.twins)


class PlantedParams(Section):
    """Known concepts in generated activations, and an SAE that looks for them; the recipe is `train`'s."""

    world: WorldParams
    seeds: Count  # worlds, each with an SAE of its own; the first has the run's seed
    train: Count  # training images
    val: Count  # held-out images
    k: Count  # in place of the top-level k
    dictionary: Concepts  # these five in place of `train`'s
    levels: tuple[Count, ...] | None
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

    readout_images: Count  # most training images that readouts, and maps between models, learn from
    held_out: str | None  # slug of the model that joins late; null = the last of `models`
    onboarding_images: tuple[Sample, ...] = Field(min_length=1)  # training images it learns from, one fit each


class MaximiseParams(Section):
    """Coordinated activation maximisation (MACO) of chosen concepts."""

    rule: Literal[
        "funnel", "energy", "entropy", "ids"
    ]  # shared, best first | strongest | each model's own | listed
    concepts: CountOrNone  # how many; 0 = none
    ids: tuple[int, ...] | None  # for rule: ids, in place of `concepts`
    also: tuple[int, ...]  # further concepts, whatever the rule; one more makes no other picture again
    starts: Count  # pictures of each concept and model from different random phases, for repeatability
    random: CountOrNone  # random directions maximised in the same way: the control
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

    concepts: Count  # concept cards with images, by agreement
    unique: CountOrNone  # further cards of concepts that only one model has, per model
    images: Count  # images per card, at most measure.exemplars
    own_images: CountOrNone  # further images per card and model: those that the model ranks highest
    thumbnail: int = Field(ge=16, le=MOST)  # pixels per side of an image
    megabytes: Positive  # most that the page may have


class RuntimeParams(Section):
    """Where and how fast; in no stage's `params:`, since none of it changes a result's meaning."""

    device: str  # auto | cpu | cuda | cuda:1
    threads: Count | None  # CPU threads of torch; null = torch's choice
    batch_images: Count  # images per forward pass when extracting and encoding
    workers: Count  # threads that decode images
    store: str  # root of the activation stores; relative = inside the main checkout; $USAE_STORE overrides
    kernels: Kernels  # auto: Triton's on a GPU, where they agree with torch on the first batch | torch: never
    resident: Literal["auto", "never", "always"]  # training set in the device's memory; auto: a GPU with room
    processes: Count  # that train together under torchrun, one a GPU
    one_pass: Literal["layers", "models", "none"]  # over the images: what is extracted together (params.yaml)
    dask: str | None  # null = in this process | local:N worker processes | tcp://HOST:PORT | a scheduler file
    checkpoint_minutes: NonNegative  # between checkpoints of a training run; 0 = after every step
    tracker: str | None  # live curves: null | tensorboard:FOLDER | wandb:PROJECT


class Params(Section):
    """Everything in `params.yaml`."""

    k: Count  # concepts kept per token (official: 32)
    seed: int = Field(ge=0)
    evidence: Literal["full", "quick"]  # quick: the universal SAE and its measures alone (see `Params.quick`)
    models: tuple[str, ...]  # slugs of the zoo, in order
    images: ImagesParams
    extract: ExtractParams
    train: TrainParams
    controls: ControlsParams
    methods: MethodsParams
    encode: EncodeParams
    measure: MeasureParams
    planted: PlantedParams
    ood: OodParams
    interventions: InterventionsParams
    maximise: MaximiseParams
    report: ReportParams
    runtime: RuntimeParams
    zoo: dict[str, ModelParams]

    @property
    def quick(self) -> bool:
        """Whether controls, other methods and studies are left to a full run: their outputs are without rows."""
        return self.evidence == "quick"
