"""What one concept alone tells about a label: one-dimensional logistic probes (SPARC, arXiv 2507.06265).

Per label and model: as many images without the label as with it, split 70/15/15; the 20 concepts that fire most in
training images with it; a logistic regression on each one's largest code in the image; the best by validation
log-loss is judged by its test log-loss. Lower is better, ln 2 = 0.693 is chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit

from usae.common.seeds import generator
from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk

CANDIDATES = 20
MIN_POSITIVES = 50  # a task needs more
SHARES = (0.7, 0.85)  # where training ends, where validation ends
PENALTY = 1.0  # on half the squared weight, against the sum of log-losses
STEPS = 50


@dataclass(frozen=True)
class ProbeTask:
    """One label. images: of both kinds; positive: which carry it; part: 0 train, 1 validation, 2 test."""

    label: int
    images: Array
    positive: Array
    part: Array


@dataclass
class TrainingFires:
    """How often concepts fire in a task's training images with its label: counts (tasks, m, c)."""

    tasks: Sequence[ProbeTask]
    models: int
    concepts: int
    threshold: float
    counts: Array = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.tasks), self.models, self.concepts), dtype=np.int32)

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        asked = [np.isin(codes[0].images, task.images[task.positive & (task.part == 0)]) for task in self.tasks]
        for model, chunk in enumerate(codes):
            fired = image_peaks(chunk, self.concepts) > np.float32(self.threshold)  # (images, concepts)
            self.counts[:, model] += [fired[images].sum(axis=0, dtype=np.int32) for images in asked]

    def candidates(self, count: int = CANDIDATES) -> Array:
        """(tasks, m, count) concepts that fire most often, the first of equals first."""
        return np.stack([np.argsort(-counts, axis=1, kind="stable")[:, :count] for counts in self.counts])


@dataclass
class ProbeSamples:
    """The codes that the tasks ask for: per task, (models, images of the task, candidates); grows with these only.

    candidates (tasks, models, 20): concepts.
    """

    tasks: Sequence[ProbeTask]
    candidates: Array

    def __post_init__(self) -> None:
        models, count = self.candidates.shape[1:]
        self.values = [np.zeros((models, len(task.images), count), dtype=np.float32) for task in self.tasks]

    def update(self, codes: Sequence[CodeChunk]) -> None:
        """Add one chunk: the codes of every model, in order, for the same images."""
        images = codes[0].images
        for model, chunk in enumerate(codes):
            peaks = image_peaks(chunk, int(max(chunk.indices.max(initial=0), self.candidates.max())) + 1)
            for task, chosen, values in zip(self.tasks, self.candidates[:, model], self.values, strict=True):
                rows = np.flatnonzero(np.isin(task.images, images))
                positions = np.searchsorted(images, task.images[rows])
                values[model, rows] = peaks[np.ix_(positions, chosen)]

    def frame(self, models: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
        """One row per task and model: model, label, concept_id, log_loss, positives, n (images tested)."""
        rows = []
        for task, values, chosen in zip(self.tasks, self.values, self.candidates, strict=True):
            for model, codes, candidates in zip(models, values, chosen, strict=True):
                best, loss = best_probe(codes, task.positive, task.part)
                tested = task.part == 2
                rows.append(
                    {
                        "model": model,
                        "label": names[task.label],
                        "concept_id": int(candidates[best]),
                        "log_loss": loss,
                        "positives": int((task.positive & tested).sum()),
                        "n": int(tested.sum()),
                    }
                )
        return pd.DataFrame(rows, columns=["model", "label", "concept_id", "log_loss", "positives", "n"])


def draw_tasks(carried: Array, seed: int, minimum: int = MIN_POSITIVES) -> list[ProbeTask]:
    """A balanced task for every label with more than `minimum` images on both sides, both split alike.

    `carried` (images, labels) says which image carries which label.
    """
    tasks = []
    for label, column in enumerate(carried.T):
        rng = generator(seed, "images of a label", label)
        kinds = [rng.permutation(np.flatnonzero(column == wanted)) for wanted in (True, False)]
        size = min(len(kind) for kind in kinds)
        if size > minimum:
            part = np.digitize(np.arange(size), np.round(np.array(SHARES) * size))
            images = np.concatenate([kind[:size] for kind in kinds])
            tasks.append(ProbeTask(label, images, np.repeat([True, False], size), np.tile(part, 2)))
    return tasks


def best_probe(values: Array, positive: Array, part: Array) -> tuple[int, float]:
    """Column of `values` (images, candidates) with the least validation log-loss, and its test log-loss."""
    weights, offsets = fit_logistic(values[part == 0], positive[part == 0])
    losses = [log_loss(values[part == which] * weights + offsets, positive[part == which]) for which in (1, 2)]
    best = int(losses[0].argmin())
    return best, float(losses[1][best])


def fit_logistic(values: Array, positive: Array) -> tuple[Array, Array]:
    """Weights and offsets (s,) of s logistic regressions on one feature each, `values` (n, s).

    Least of weight squared / 2 + sum of log-losses, as scikit-learn's at C = 1, by damped Newton steps.
    """
    x, y = values.astype(np.float64), positive.astype(np.float64)[:, None]
    solution = np.zeros((2, x.shape[1]))
    loss = _objective(solution, x, positive)
    for _ in range(STEPS):
        step = _newton(solution, x, y)
        for _ in range(30):
            tried = _objective(solution - step, x, positive)
            worse = tried > loss
            if not worse.any():
                break
            step = np.where(worse, step / 2, step)
        solution, loss = solution - step, np.minimum(tried, loss)
        if np.abs(step).max(initial=0) < 1e-10:
            break
    return solution[0], solution[1]


def log_loss(logits: Array, positive: Array) -> Array:
    """(s,) mean log-loss of logits (n, s)."""
    return np.asarray(np.logaddexp(0, np.where(positive[:, None], -logits, logits)).mean(axis=0))


def image_peaks(codes: CodeChunk, concepts: int) -> Array:
    """(b, c) the largest code of each concept in each image."""
    peaks = np.zeros((len(codes.images), concepts), dtype=np.float32)
    rows = np.arange(len(peaks))[:, None, None]
    np.maximum.at(peaks, (rows, codes.indices.astype(np.int64)), codes.values)
    return peaks


def _objective(solution: Array, x: Array, positive: Array) -> Array:
    return np.asarray(PENALTY * solution[0] ** 2 / 2 + len(x) * log_loss(x * solution[0] + solution[1], positive))


def _newton(solution: Array, x: Array, y: Array) -> Array:
    """(2, s) the Newton step."""
    chance = expit(x * solution[0] + solution[1])  # (n, s)
    gradient = np.stack([PENALTY * solution[0] + (x * (chance - y)).sum(axis=0), (chance - y).sum(axis=0)])
    spread = chance * (1 - chance)
    a, b, c = PENALTY + (x * x * spread).sum(axis=0), (x * spread).sum(axis=0), spread.sum(axis=0)
    determinant = np.maximum(a * c - b * b, np.finfo(float).tiny)
    step = np.stack([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]])
    return np.asarray(step / determinant)
