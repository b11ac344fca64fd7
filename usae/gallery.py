"""Which concepts are shown, on which images, and where on them each model switches the concept on.

Used by the stages `report` (concept cards, the README's picture) and `maximise`, so that both show
the same concepts by the same rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from usae.codes import CodeStore
from usae.geometry import fit_image
from usae.images import ImageIndex
from usae.params import Fit

SUPPORT = 100  # tokens on which a concept has to (co-)fire before it is shown: proportions of fewer are noise
MEAN_RANKING = "mean"


@dataclass(frozen=True)
class Choice:
    """A concept to show: shared by all models, or specific to one of them (`owner`)."""

    concept: int
    owner: str | None = None

    @property
    def ranking(self) -> str:
        """Which ranking in exemplars.parquet its images come from."""
        return self.owner or MEAN_RANKING


@dataclass(frozen=True)
class Exhibit:
    """One concept on its images.

    `images` (n,) are rows of the image index; `codes` (m, n, grid, grid) float32 is its code at each token,
    0 where it is not among the k chosen.
    """

    choice: Choice
    models: tuple[str, ...]
    images: tuple[int, ...]
    codes: np.ndarray

    def peak(self, model: str) -> float:
        """The largest code of a model among these images, the top of its heatmap scale."""
        return float(self.codes[self.models.index(model)].max(initial=0.0))


def shared_concepts(concepts: pd.DataFrame, count: int) -> list[Choice]:
    """The `count` concepts on which the models agree most: largest `universality` with at least 100 co-fires."""
    supported = concepts[(concepts["cofires"] >= SUPPORT) & (concepts["universality"] > 0)]
    order = supported.sort_values(["universality", "concept_id"], ascending=[False, True])
    return [Choice(int(concept)) for concept in order["concept_id"].head(count)]


def specific_concepts(
    concepts: pd.DataFrame, concept_models: pd.DataFrame, models: Sequence[str], count: int
) -> list[Choice]:
    """Per model, the `count` concepts that are most its own.

    Those with the lowest `firing_entropy` among the concepts that fire most in this model, and there 100 times.
    """
    fires = concept_models.pivot(index="concept_id", columns="model", values="fires")[list(models)]
    frame = pd.DataFrame({"owner": fires.idxmax(axis=1), "fires": fires.max(axis=1)})
    frame["entropy"] = concepts.set_index("concept_id")["firing_entropy"]
    frame = frame[frame["fires"] >= SUPPORT].reset_index()
    frame = frame.sort_values(["entropy", "fires", "concept_id"], ascending=[True, False, True])
    return [
        Choice(int(concept), model)
        for model in models
        for concept in frame.loc[frame["owner"] == model, "concept_id"].head(count)
    ]


def varied(choices: Sequence[Choice], concepts: pd.DataFrame, count: int) -> list[Choice]:
    """The first `count` choices of different kinds, where labels name kinds ('shape: star' is a shape)."""
    labels = concepts.set_index("concept_id")["top_label"]
    kinds: dict[str, Choice] = {}
    for choice in choices:
        label = labels[choice.concept]
        kinds.setdefault(str(choice.concept) if pd.isna(label) else label.split(":")[0], choice)
    chosen = list(kinds.values())[:count]
    return chosen + [choice for choice in choices if choice not in chosen][: count - len(chosen)]


def exhibits(
    choices: Sequence[Choice], exemplars: pd.DataFrame, codes: Mapping[str, CodeStore], count: int
) -> Iterator[Exhibit]:
    """The chosen concepts on their `count` best images, one at a time; the codes are read as they are needed."""
    ranked = exemplars.sort_values("rank")
    for choice in choices:
        own = ranked[(ranked["concept_id"] == choice.concept) & (ranked["ranking"] == choice.ranking)]
        images = tuple(int(image) for image in own["image"].head(count))
        yield Exhibit(choice, tuple(codes), images, heatmaps(codes, choice.concept, images))


def heatmaps(codes: Mapping[str, CodeStore], concept: int, images: Sequence[int]) -> np.ndarray:
    """The code of one concept at every token of chosen images: (m, n, grid, grid) float32."""
    maps = []
    for store in codes.values():
        chunk = store.read(images)
        values = np.where(chunk.indices == concept, chunk.values, 0).sum(axis=-1, dtype=np.float32)  # (n, tokens)
        maps.append(values.reshape(len(images), store.grid, store.grid))
    return np.stack(maps)


def thumbnails(index: ImageIndex, images: Sequence[int], side: int, fit: Fit) -> np.ndarray:
    """Images in the geometry the models saw: (n, side, side, 3) uint8."""
    fitted = [fit_image(index.open(image), side, fit, "bicubic") for image in images]
    return np.stack(fitted).transpose(0, 2, 3, 1) if fitted else np.empty((0, side, side, 3), np.uint8)
