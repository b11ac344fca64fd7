"""A verdict before any number: readable, with caution, or not readable, and why (stage `measure`).

Every question has one bar (`bars.py`). The worst answer is the verdict. What was not asked is no pass: it leads to
caution. A run that is not readable gets no count of universal concepts anywhere.
"""

from dataclasses import asdict

import pandas as pd

from usae.evidence.verdict import counts, networks, reconstructions
from usae.evidence.verdict.answers import Evidence
from usae.evidence.verdict.tables import VERDICT

QUESTIONS = (
    networks.different,
    networks.trained,
    reconstructions.own_variance,
    reconstructions.own_sae,
    reconstructions.across,
    reconstructions.linear,
    counts.loss,
    counts.tokens,
    counts.start,
    counts.controls,
    counts.halves,
    counts.planted,
)


def verdict_frame(evidence: Evidence) -> pd.DataFrame:
    """Table `verdict`: the answers, in the order of QUESTIONS."""
    return pd.DataFrame([asdict(question(evidence)) for question in QUESTIONS], columns=VERDICT.names)
