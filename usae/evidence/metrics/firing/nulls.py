"""How often concepts would co-fire by accident: permutation nulls of the co-fire counts (stage `measure`).

Is a concept shared by *all* models of a group? Each model of the group is re-paired alone, while the others keep
their images: what is common to the others only stays as frequent as it is, and is no evidence for that model. The
concept is shared by all where the count beats all of these nulls (`significance`: the largest p, the least lift).
Tokens of an image depend on each other, so whole images are permuted:

- `images`: tokens keep their positions, so what co-fires because it likes the same corner of any image stays;
- `class`: the same, but images move only within their class, so what follows from the class alone stays too;
- `tokens`: the tokens of each image are shuffled as well. Against `images` it shows the share of position;
- `joint`: as `images`, but of all models at once. Beating it says "not independent", and no more: two models that
  agree are enough.

Firing entropy needs no null: it is made of each model's fires alone, which no re-pairing of images changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

import numpy as np

from usae.common.runtime.progress import progress
from usae.common.seeds import generator
from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.packed import PackedFiring, joined, pack, popcount, spans, together

IMAGES, CLASS, TOKENS, JOINT = "images", "class", "tokens", "joint"
NULLS = (IMAGES, CLASS, TOKENS, JOINT)
FEW = 8  # models up to which sets that leave one out are asked too, and pairs under every null
BLOCK_IMAGES = 2500  # images permuted among each other: bounds memory, and is far more than any null needs

Group = tuple[int, ...]


@dataclass
class CofireNulls:
    """Co-fire counts of every group of models under re-pairing, for c concepts and all `images` of a split.

    `classes` (images,) numbers the class of each image (-1, unknown, counts as one); None leaves null `class` out.
    `only`: these nulls of these groups (None: all).
    `counts[null, group]` is (moves, permutations, c), see `moves`. Images are permuted within blocks of at most
    `block_images`, so memory does not grow with their number; the images of an index are in random order.
    `finish` counts the last block.
    """

    models: int
    concepts: int
    threshold: float
    permutations: int
    seed: int
    images: int
    classes: Array | None = None
    block_images: int = BLOCK_IMAGES
    only: Sequence[tuple[str, Group]] | None = None
    counts: dict[tuple[str, Group], Array] = field(init=False)
    _waiting: list[list[PackedFiring]] = field(init=False, default_factory=list)
    _numbers: list[Array] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        names = [null for null in NULLS if null != CLASS or self.classes is not None]
        keys = [(null, group) for null in names for group in groups(self.models, null) if moves(null, group)]
        self.counts = {
            key: np.zeros((len(moves(*key)), self.permutations, self.concepts), np.int32)
            for key in keys
            if self.only is None or key in self.only
        }

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images; chunks come in order."""
        if self._numbers and self._block(codes[0].images[0]) != self._block(self._numbers[0][0]):
            self.finish()
        self._waiting.append([pack(chunk, self.concepts, self.threshold) for chunk in codes])
        self._numbers.append(codes[0].images)

    def finish(self) -> None:
        """Count what `update` has kept back of the current block."""
        if not self._numbers:
            return
        images, parts = np.concatenate(self._numbers), [list(each) for each in zip(*self._waiting, strict=True)]
        self._waiting, self._numbers = [], []
        block = [joined(parts.pop(0)) for _ in range(self.models)]  # what is joined is given back at once
        still = self._still(block)
        for null in dict.fromkeys(null for null, _ in self.counts):
            for permutation in progress(range(self.permutations), description=f"null {null}", unit="re-pairing"):
                rng = generator(self.seed, "re-paired images", null, self._block(images[0]), permutation)
                self._count(null, permutation, block, still, images, rng)

    def merge(self, other: Self) -> None:
        """Add the counts of other blocks of images."""
        for key, counts in other.counts.items():
            self.counts[key] += counts

    def _block(self, image: int) -> int:
        return block_of(image, self.images, self.block_images)

    def _still(self, block: Sequence[PackedFiring]) -> dict[Group, PackedFiring]:
        """Where the models that keep their images all fire, for every group and move."""
        staying = {rest(group, moved) for null, group in self.counts for moved in moves(null, group)}
        return {models: together([block[model] for model in models]) for models in staying}

    def _count(
        self,
        null: str,
        permutation: int,
        block: Sequence[PackedFiring],
        still: Mapping[Group, PackedFiring],
        images: Array,
        rng: np.random.Generator,
    ) -> None:
        """Add the co-fires of one block under one re-pairing, of every group and move."""
        classes = np.zeros(len(images)) if null != CLASS or self.classes is None else self.classes[images]
        unmoved, order = np.arange(len(images)), [permuted(classes, rng) for _ in range(self.models)]
        for (name, group), counts in self.counts.items():
            for number, moved in enumerate(moves(name, group) if name == null else ()):
                members = [
                    (still[rest(group, moved)], unmoved),
                    *((block[model], order[model]) for model in moved),
                ]
                counts[number, permutation] += cofires(members, rng if null == TOKENS else None)


def block_of(image: int, images: int, block_images: int) -> int:
    """Which of the equal blocks an image lies in."""
    blocks = -(-images // block_images)
    return int(image) * blocks // images


def groups(models: int, null: str = IMAGES) -> tuple[Group, ...]:
    """Every pair, every set that leaves one model out, and all; each once, none of a single model.

    Of more than FEW models the pairs under null `images`, and all: each group costs memory and time for every
    permutation, and sets that leave one out have as many moves as there are pairs.
    """
    sizes = {2, models - 1, models} if models <= FEW else {2, models} if null == IMAGES else {models}
    return tuple(group for size in sorted(sizes - {0, 1}) for group in combinations(range(models), size))


def moves(null: str, group: Group) -> tuple[Group, ...]:
    """The models that are re-paired together, one re-pairing after another: each alone, or (JOINT) all but one.

    Of two models it does not matter which one moves, so one does, and JOINT would be the same.
    """
    if null == JOINT:
        return (group[1:],) if len(group) > 2 else ()
    return tuple((model,) for model in (group if len(group) > 2 else group[1:]))


def rest(group: Group, moved: Group) -> Group:
    """The models of the group that keep their images."""
    return tuple(model for model in group if model not in moved)


def permuted(classes: Array, rng: np.random.Generator) -> Array:
    """(n,) a random order of n images in which every position keeps its class."""
    order = np.empty(len(classes), dtype=np.int64)
    order[np.argsort(classes, kind="stable")] = np.lexsort((rng.random(len(classes)), classes))
    return order


def cofires(members: Sequence[tuple[PackedFiring, Array]], rng: np.random.Generator | None = None) -> Array:
    """(c,) tokens on which all members fire, when position p shows image order[p] of each (firing, order).

    With `rng` the tokens of every image are shuffled independently: where a concept fires on a and on b of t
    tokens, the overlap is hypergeometric, and is drawn as such.
    """
    (first, order), *others = sorted(members, key=lambda member: len(member[0].image))
    place = np.argsort(order)
    counts = np.zeros(first.concepts, np.int64)
    for span in spans(first):
        counts += _cofires(first, place, others, span, rng)
    return counts


def _cofires(
    first: PackedFiring,
    place: Array,
    others: Sequence[tuple[PackedFiring, Array]],
    span: slice,
    rng: np.random.Generator | None,
) -> Array:
    """`cofires` of a span of the first member's pairs; place: where each of its images is shown."""
    concepts = first.concepts
    position, concept = place[first.image[span]], first.concept[span]  # (pairs,)
    fires = (first.bits if rng is None else first.sizes)[span]
    for other, order in others:
        rows = other.slot.ravel().take(order[position] * concepts + concept)
        both = np.flatnonzero(rows >= 0)
        position, concept, rows, fires = position[both], concept[both], rows[both], fires[both]
        if rng is None:
            fires = fires & other.bits[rows]
        else:
            fires = rng.hypergeometric(fires, first.tokens - fires, other.sizes[rows])
    counts = popcount(fires) if rng is None else fires
    return np.bincount(concept, weights=counts, minlength=concepts).astype(np.int64)
