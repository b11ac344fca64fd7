"""Which score separates shared from private planted concepts, and which rule calls private ones universal?

Used by stage `planted`. Each planted concept is judged at the code that follows it best. A private concept that a
rule calls universal is a false one; the share of these is the rule's false-universality rate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from usae.codes import CodeChunk
from usae.metrics import universality as u
from usae.metrics.recovery import Matches
from usae.ranking import roc_auc

SHARED = "shared"
EVEN = 0.95  # firing entropy above which the use of a concept counts as even
DISCOVERY = 0.05  # rate of false discoveries among significant ones
LIFTED = 100.0
AGREED = 0.5

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Finding:
    """What one setting gave. kinds (g,), owners (g, m): of the planted concepts; scores, p (c,): of the codes."""

    setting: str
    kinds: Array
    owners: Array
    matches: Matches
    scores: Mapping[str, Array]
    p: Array

    def concepts(self) -> pd.DataFrame:
        """Rows of table `planted_concepts`: planted concepts, their codes and the codes' scores."""
        joint = self.matches.joint
        return pd.DataFrame(
            {
                "setting": self.setting,
                "planted_id": np.arange(len(self.kinds)),
                "kind": self.kinds,
                "concept_id": joint,
                "cosine": np.nanmean(self.matches.joint_cosines, axis=0),
                "agreed": self.matches.agreed,
                **{name: values[joint] for name, values in self.scores.items()},
                "p": self.p[joint],
            }
        )

    def numbers(self) -> pd.DataFrame:
        """Rows of table `planted`."""
        columns = ["quantity", "by", "kind", "value", "planted"]
        frame = pd.DataFrame([*self._recovered(), *self._separated(), *self._called()], columns=columns)
        frame.insert(0, "setting", self.setting)
        return frame

    def _recovered(self) -> Iterator[tuple[str, str, str, float, int]]:
        known = self.owners.T
        for kind, chosen in self._kinds():
            yield (
                "cosine",
                "direction",
                kind,
                float(np.nanmean(self.matches.cosines[:, chosen])),
                int(chosen.sum()),
            )
            found = self.matches.found[:, chosen].sum() / known[:, chosen].sum()
            yield "found", "direction", kind, float(found), int(chosen.sum())
            yield "agreed", "direction", kind, float(self.matches.agreed[chosen].mean()), int(chosen.sum())
            yield "joined", "activity", kind, float(self.matches.joined[chosen].mean()), int(chosen.sum())

    def _separated(self) -> Iterator[tuple[str, str, str, float, int]]:
        joined = self.matches.joined
        positive = (self.kinds == SHARED) & joined
        for kind, chosen in self._kinds():
            negative = chosen & joined
            for name, values in self.scores.items() if kind != SHARED else ():
                value = separation(values, self.matches.joint, positive, negative)
                yield "auroc", name, kind, value, int((positive | negative).sum())

    def _called(self) -> Iterator[tuple[str, str, str, float, int]]:
        for name, universal in rules(self.scores, self.p).items():
            for kind, chosen in self._kinds():
                yield "called", name, kind, float(universal[self.matches.joint[chosen]].mean()), int(chosen.sum())

    def _kinds(self) -> list[tuple[str, Array]]:
        return [(str(kind), self.kinds == kind) for kind in dict.fromkeys(self.kinds)]


def scores(fires: Array, cofires: Array, tokens: int) -> dict[str, Array]:
    """(c,) scores of universality by name, NaN where they are not defined; `fires` (m, c), `cofires` (c,).

    cofire_proportion is the smallest over models.
    """
    return {
        "firing_entropy": u.firing_entropy(fires),
        "cofire_proportion": u.universality(cofires, fires),
        "lift": u.lift(cofires, fires, tokens),
    }


def rules(found: Mapping[str, Array], p: Array) -> dict[str, Array]:
    """(c,) which concepts each rule calls universal, from `scores` and the p-values (c,) of co-firing."""
    significant = discoveries(p)
    even = found["firing_entropy"] > EVEN
    return {
        "entropy": even,
        "significant": significant,
        "entropy and significant": even & significant,
        f"significant and lift > {LIFTED:g}": significant & (found["lift"] > LIFTED),
        f"significant and proportion > {AGREED:g}": significant & (found["cofire_proportion"] > AGREED),
    }


def discoveries(p: Array) -> Array:
    """(c,) which p-values pass Benjamini and Hochberg's procedure at 5 %; NaN is left out and never passes."""
    passed = np.zeros(len(p), dtype=bool)
    known = ~np.isnan(p)
    if known.any():
        passed[known] = false_discovery_control(p[known]) <= DISCOVERY
    return passed


def separation(values: Array, joint: Array, positive: Array, negative: Array) -> float:
    """AUROC of scores (c,) at the codes `joint` (g,), for planted concepts that are `positive` or `negative` (g,).

    A score that is not defined ranks last.
    """
    chosen = positive | negative
    return roc_auc(np.nan_to_num(values[joint[chosen]], nan=-1.0), positive[chosen])


class Pairings:
    """Co-fires of one set of codes under re-pairings of its images between models; tokens keep their places.

    Holds one bit per image, token, concept and model: for planted data, which is small.
    """

    def __init__(self, chunks: Sequence[Sequence[CodeChunk]], concepts: int, threshold: float) -> None:
        models = range(len(chunks[0]))
        self.firing = [np.concatenate([_dense(part[m], concepts, threshold) for part in chunks]) for m in models]

    def cofires(self, partners: Sequence[Array]) -> Array:
        """(c,) tokens on which all models fire when model i shows image partners[i][n] in place n."""
        together = self.firing[0][partners[0]]
        for firing, rows in zip(self.firing[1:], partners[1:], strict=True):
            together = together & firing[rows]
        return np.asarray(together.sum(axis=(0, 1)))

    def p_values(self, permutations: int, rng: np.random.Generator) -> Array:
        """(c,) share of pairings, the true one included, with at least its co-fires; NaN for dead concepts."""
        images = np.arange(len(self.firing[0]))
        found = self.cofires([images] * len(self.firing))
        reached = np.ones(len(found))
        for _ in range(permutations):
            partners = [images, *(rng.permutation(images) for _ in self.firing[1:])]
            reached += self.cofires(partners) >= found
        alive = np.any([firing.any(axis=(0, 1)) for firing in self.firing], axis=0)
        return np.where(alive, reached / (permutations + 1), np.nan)


def _dense(chunk: CodeChunk, concepts: int, threshold: float) -> Array:
    """(images, tokens, c) which concepts fire."""
    firing = np.zeros((*chunk.indices.shape[:2], concepts), dtype=bool)
    image, token, slot = np.nonzero(chunk.values > np.float32(threshold))
    firing[image, token, chunk.indices[image, token, slot]] = True
    return firing
