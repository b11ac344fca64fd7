"""Which models fire together on which concept, and every number that follows from it (stage `measure`).

A concept fires in a model on a token when its code exceeds a threshold. For every concept the accumulator
counts each *pattern* of models that fire together (`patterns.py`); from these counts the
firing entropy, co-firing proportion and energy of arXiv 2502.03714 follow exactly, and so does the lift over
independent models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from usae.common.errors import UserError
from usae.common.params.sections import MOST_MODELS
from usae.common.types import Array
from usae.evidence.codes.rows import fired
from usae.evidence.codes.store import CodeChunk
from usae.evidence.metrics.firing.patterns import PatternCounts

LOW_ENTROPY = 0.2  # firing entropy below which one model owns a concept
HIGH_ENTROPY = 0.95  # above it the models fire about equally often
TOP_SHARE = 1 / 6  # what counts as top concepts: the paper averages over 1000 of 6144

CACHED_CELLS = 2**22  # (token, concept) cells marked at once: they stay in the processor's cache


@dataclass
class FiringCounts:
    """Counts over tokens, for m models and c concepts.

    `patterns`: tokens on which exactly a set of models fires; `fires` (m, c): on which model i does, f_ik;
    `active` (m, c): tokens with a code above 0; `sums` and `maxima` (m, c): of the codes, without threshold.
    What fires is `codes.rows.fired`.
    """

    models: int
    concepts: int
    threshold: float
    tokens: int = 0
    patterns: PatternCounts = field(init=False)
    fires: Array = field(init=False)
    active: Array = field(init=False)
    sums: Array = field(init=False)
    maxima: Array = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.models <= MOST_MODELS:
            raise UserError(
                f"Co-firing is counted for 1 to {MOST_MODELS} models, `models` in params.yaml names {self.models}."
                " Name fewer."
            )
        self.patterns = PatternCounts(self.models, self.concepts)
        self.fires, self.active = np.zeros((2, self.models, self.concepts), dtype=np.int64)
        self.sums = np.zeros((self.models, self.concepts))
        self.maxima = np.zeros((self.models, self.concepts), dtype=np.float32)

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        self.tokens += codes[0].tokens
        for model, chunk in enumerate(codes):
            concepts = chunk.indices.ravel()  # (images * tokens * k)
            values = chunk.values.ravel()  # (images * tokens * k)
            self.active[model] += np.bincount(concepts[values > 0], minlength=self.concepts)
            self.sums[model] += np.bincount(concepts, weights=values, minlength=self.concepts)
            np.maximum.at(self.maxima[model], concepts, values)
        self._count_patterns(codes)

    def merge(self, other: Self) -> None:
        """Add the counts of other images."""
        self.tokens += other.tokens
        self.patterns.merge(other.patterns)
        self.fires += other.fires
        self.active += other.active
        self.sums += other.sums
        np.maximum(self.maxima, other.maxima, out=self.maxima)

    @property
    def cofires(self) -> Array:
        """(c,) tokens on which all models fire, c_k."""
        return self.together(range(self.models))

    @property
    def cofires_without(self) -> Array:
        """(m, c) tokens on which all models but i fire, whatever i does."""
        others = [[other for other in range(self.models) if other != model] for model in range(self.models)]
        return np.stack([self.together(group) for group in others])

    def together(self, models: Sequence[int]) -> Array:
        """(c,) tokens on which all of `models` fire, whatever the others do; (all tokens for none)."""
        return self.patterns.together(models) if len(models) else np.full(self.concepts, self.tokens)

    @property
    def mean_codes(self) -> Array:
        """(m, c) mean code over all tokens, zeros included."""
        return np.asarray(self.sums / max(self.tokens, 1))

    @property
    def sparsity(self) -> Array:
        """(m,) L0: mean number of codes above 0 per token."""
        return np.asarray(self.active.sum(axis=1) / max(self.tokens, 1))

    def _count_patterns(self, codes: Sequence[CodeChunk]) -> None:
        """Mark who fires in a small table of cells, some tokens at a time, and read the marks back."""
        step = max(1, CACHED_CELLS // self.concepts)  # tokens
        mark = np.min_scalar_type((1 << self.models) - 1).type  # a bit for each model
        marks: Array = np.zeros(min(step, codes[0].tokens) * self.concepts, dtype=mark)
        for cells in self._cells(codes, step):
            for model, cell in enumerate(cells):
                marks[cell] |= mark(1 << model)
            for model, cell in enumerate(cells):
                pattern = marks[cell]
                first = (pattern & ((1 << model) - 1)) == 0  # of the models that fire here: one counts the cell
                concept = cell % self.concepts
                self.fires[model] += np.bincount(concept, minlength=self.concepts)
                self.patterns.add(concept[first], pattern[first])
            for cell in cells:
                marks[cell] = 0

    def _cells(self, codes: Sequence[CodeChunk], step: int) -> Iterator[list[Array]]:
        """For every `step` tokens, per model: token, counted from the first of them, times c plus concept."""
        fires = [fired(chunk, self.threshold) for chunk in codes]
        for start in range(0, codes[0].tokens, step):
            spans = [slice(*np.searchsorted(token, (start, start + step))) for token, _ in fires]
            yield [
                (token[span] - start) * self.concepts + concept[span]
                for (token, concept), span in zip(fires, spans, strict=True)
            ]


def firing_entropy(fires: Array) -> Array:
    """(c,) normalised entropy of the share of each model in the fires of a concept (arXiv 2502.03714).

    `fires` (m, c). 1 = all models fire equally often, 0 = only one fires, NaN = none does. It compares rates
    only: re-pairing the images of one model does not change it.
    """
    if len(fires) == 1:
        return np.where(fires[0] > 0, 0.0, np.nan)
    shares = _ratio(fires, fires.sum(axis=0))  # (models, concepts)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return np.asarray(np.abs((shares * logs).sum(axis=0) / np.log(len(fires))))


def cofire_proportion(cofires: Array, fires: Array) -> Array:
    """(m, c) share of the fires of model i on which all models fire; NaN where i never fires."""
    return _ratio(cofires, fires)


def cofire_proportion_min(cofires: Array, fires: Array) -> Array:
    """(c,) the smallest co-firing proportion over models: every model agrees at least this often.

    NaN for concepts that are dead in some model.
    """
    return np.asarray(cofire_proportion(cofires, fires).min(axis=0))


def cofire_ceiling(fires: Array) -> Array:
    """(m, c) largest co-firing proportion that the firing rates allow, min_j f_jk / f_ik; NaN where dead."""
    return _ratio(fires.min(axis=0), fires)


def lift(cofires: Array, fires: Array, tokens: int) -> Array:
    """(c,) co-fires over those expected of independent models, c_k n^(m-1) / prod_i f_ik.

    1 = chance, NaN for concepts that are dead in some model.
    """
    return _ratio(cofires / max(tokens, 1), np.prod(fires / max(tokens, 1), axis=0))


def log10_lift(lifts: Array) -> Array:
    """(c,) decimal logarithm of `lift`; NaN where the lift is 0 or undefined."""
    return np.log10(np.where(lifts > 0, lifts, np.nan))


def energy(mean_codes: Array, norms: Array | float = 1.0) -> Array:
    """(m, c) norm of the mean contribution of a concept, || E[z_k] D_k || (paper eq. 9, not squared).

    `norms` (m, c) are those of what a code of 1 adds to the activations (`contribution_norms`); at norm 1, without
    gain, energy is the mean code.
    """
    return np.asarray(mean_codes * norms)


def top_by_energy(energies: Array, count: int) -> Array:
    """(<= count,) concepts with the largest energy summed over models; never those of no energy at all."""
    summed = energies.sum(axis=0)  # (concepts,)
    order = np.argsort(-summed, kind="stable")[:count]
    return np.asarray(order[summed[order] > 0])


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient in float64 with NaN, and no warning, where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    missing = np.full(shape, np.nan)
    return np.asarray(
        np.divide(numerator, denominator, out=missing, where=np.broadcast_to(denominator, shape) > 0)
    )


def unique_to(fires: Array, models: Sequence[str]) -> Array:
    """(c,) the model with the most fires where firing entropy is low, else None; `fires` (m, c)."""
    names = np.array(models, dtype=object)[fires.argmax(axis=0)]
    return np.asarray(np.where(firing_entropy(fires) < LOW_ENTROPY, names, None), dtype=object)
