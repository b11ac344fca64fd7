"""Which score separates shared from private planted concepts, and which rule calls private ones universal?

Used by stage `planted`. Each planted concept is judged at the code that follows it best. A private concept that a
rule calls universal is a false one; the share of these is the rule's false-universality rate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from usae.common.numerics.ranking import roc_auc
from usae.common.numerics.significance import FALSE_DISCOVERY_RATE
from usae.common.types import Array
from usae.evidence.metrics.firing import counts as u
from usae.evidence.metrics.funnel import common_steps
from usae.evidence.planted.recovery import Matches

SHARED = "shared"
LIFTED = 100.0
AGREED = 0.5


@dataclass(frozen=True)
class Finding:
    """What one setting gave. kinds (g,), owners (g, m): of the planted concepts; scores (c,) and evidence, a row
    each (see `significance.evidence`): of the codes.
    """

    setting: str
    kinds: Array
    owners: Array
    matches: Matches
    scores: Mapping[str, Array]
    evidence: pd.DataFrame

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
                "p": self.evidence["p"].to_numpy()[joint],
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
        for name, universal in rules(self.scores, self.evidence, self.owners.shape[1]).items():
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


def rules(found: Mapping[str, Array], evidence: pd.DataFrame, models: int) -> dict[str, Array]:
    """(c,) which concepts each rule calls universal, from `scores` and `significance.evidence`.

    funnel: its steps as far as they can be asked here, where there are no untrained networks, one start and no
    labels: alive, in all models, significant.
    """
    significant = (evidence["q"] <= FALSE_DISCOVERY_RATE).to_numpy()
    even = found["firing_entropy"] > u.HIGH_ENTROPY
    steps = common_steps(evidence, models, None)
    return {
        "entropy": even,
        "significant": significant,
        "funnel": np.logical_and.reduce([step.passed for step in steps]),
        "entropy and significant": even & significant,
        f"significant and lift > {LIFTED:g}": significant & (found["lift"] > LIFTED),
        f"significant and proportion > {AGREED:g}": significant & (found["cofire_proportion"] > AGREED),
    }


def separation(values: Array, joint: Array, positive: Array, negative: Array) -> float:
    """AUROC of scores (c,) at the codes `joint` (g,), for planted concepts that are `positive` or `negative` (g,).

    A score that is not defined ranks last.
    """
    chosen = positive | negative
    return roc_auc(np.nan_to_num(values[joint[chosen]], nan=-1.0), positive[chosen])
