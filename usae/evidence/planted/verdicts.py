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
from usae.evidence.metrics.firing.counts import HIGH_ENTROPY, cofire_proportion_min, firing_entropy, lift
from usae.evidence.metrics.funnel import Thresholds, common_steps
from usae.evidence.planted.recovery import Matches

SHARED = "shared"
TRACKED, CALLED_UNIVERSAL = "tracked", "called universal"  # quantities of table `planted`
LIFTED = 100.0
AGREED = 0.5


@dataclass(frozen=True)
class SettingResult:
    """What one setting of stage `planted` gave.

    kinds (g,), owners (g, m) bool: of the planted concepts, and matches to their codes. scores, (c,) by name, and
    evidence, one row per code (see `metrics.firing.evidence.evidence`): of the codes.
    """

    setting: str
    kinds: Array
    owners: Array
    matches: Matches
    scores: Mapping[str, Array]
    evidence: pd.DataFrame
    agreement: float

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

    def quantities(self) -> pd.DataFrame:
        """Rows of table `planted`."""
        columns = ["quantity", "by", "kind", "value", "planted"]
        frame = pd.DataFrame([*self._recovered(), *self._separated(), *self._called_universal()], columns=columns)
        frame.insert(0, "setting", self.setting)
        return frame

    def _recovered(self) -> Iterator[tuple[str, str, str, float, int]]:
        matches = self.matches
        for kind, chosen in self._kinds():
            planted = int(chosen.sum())
            share_found = matches.found[:, chosen].sum() / self.owners.T[:, chosen].sum()
            yield "cosine", "direction", kind, float(np.nanmean(matches.cosines[:, chosen])), planted
            yield "found", "direction", kind, float(share_found), planted
            yield "agreed", "direction", kind, float(matches.agreed[chosen].mean()), planted
            yield TRACKED, "activity", kind, float(matches.tracked[chosen].mean()), planted

    def _separated(self) -> Iterator[tuple[str, str, str, float, int]]:
        tracked = self.matches.tracked
        positive = (self.kinds == SHARED) & tracked
        for kind, chosen in self._kinds():
            negative = chosen & tracked
            for name, values in self.scores.items() if kind != SHARED else ():
                value = separation(values, self.matches.joint, positive, negative)
                yield "auroc", name, kind, value, int((positive | negative).sum())

    def _called_universal(self) -> Iterator[tuple[str, str, str, float, int]]:
        for name, universal in rules(self.scores, self.evidence, self.owners.shape[1], self.agreement).items():
            for kind, chosen in self._kinds():
                share = float(universal[self.matches.joint[chosen]].mean())
                yield CALLED_UNIVERSAL, name, kind, share, int(chosen.sum())

    def _kinds(self) -> list[tuple[str, Array]]:
        return [(str(kind), self.kinds == kind) for kind in dict.fromkeys(self.kinds)]


def universality_scores(fires: Array, cofires: Array, tokens: int) -> dict[str, Array]:
    """(c,) scores of universality by name, NaN where they are not defined; `fires` (m, c), `cofires` (c,).

    cofire_proportion_min is the smallest over models.
    """
    return {
        "firing_entropy": firing_entropy(fires),
        "cofire_proportion_min": cofire_proportion_min(cofires, fires),
        "lift": lift(cofires, fires, tokens),
    }


def rules(scores: Mapping[str, Array], evidence: pd.DataFrame, models: int, agreement: float) -> dict[str, Array]:
    """(c,) which concepts each rule calls universal, from their scores (see `universality_scores`) and `evidence`.

    funnel: its steps from alive to agreement. The others are not asked: there are no untrained
    networks, no further seeds and no labels here.
    """
    significant = (evidence["q"] <= FALSE_DISCOVERY_RATE).to_numpy()
    even = scores["firing_entropy"] > HIGH_ENTROPY
    steps = common_steps(evidence, models, None, Thresholds(agreement))
    return {
        "entropy": even,
        "significant": significant,
        "funnel": np.logical_and.reduce([step.passed for step in steps]),
        "entropy and significant": even & significant,
        f"significant and lift > {LIFTED:g}": significant & (scores["lift"] > LIFTED),
        f"significant and proportion > {AGREED:g}": significant & (scores["cofire_proportion_min"] > AGREED),
    }


def separation(values: Array, joint: Array, positive: Array, negative: Array) -> float:
    """AUROC of scores (c,) at the codes `joint` (g,), for planted concepts that are `positive` or `negative` (g,).

    A score that is not defined ranks last.
    """
    chosen = positive | negative
    return roc_auc(np.nan_to_num(values[joint[chosen]], nan=-1.0), positive[chosen])
