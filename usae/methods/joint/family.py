"""The switches of the family: whose pre-codes choose a token's concepts, whose make the codes, what decodes them.

All of it is encoders, a choice, values, decoders, and a weighted sum of the M x M errors of reconstruction. SPARC
(Nasiri-Sarvi et al. 2025) chooses with all models and keeps each model's own values; crosscoders (Lindsey et al.
2024) have one code for all.
"""

from dataclasses import dataclass
from typing import Literal

Whose = Literal["own", "sum"]  # each model's own pre-codes | the sum over models


@dataclass(frozen=True)
class Family:
    """One method.

    chosen_by, values: of a token's codes. scope: the k largest of each token, as many as that in the whole batch,
    or all that are positive, which a penalty holds to k of a token on average. cross: weight of a source's M - 1
    cross terms together, where its self term has 1; None: M - 1, each counts as the self term does. free: decoders
    of any norm with an offset, and encoders of centred tokens without normalisation. kept: chance of a model to be
    read in a row; at least one is. dedicated: share of the concepts that each model has for itself. prefixes:
    shares of the concepts that reconstruct by themselves, the choice being among all concepts; empty: the run's
    levels, each with its own choice.
    """

    chosen_by: Whose = "own"
    values: Whose = "own"
    scope: Literal["token", "batch", "positive"] = "token"
    cross: float | None = None
    free: bool = False
    kept: float = 1.0
    dedicated: float = 0.0
    prefixes: tuple[float, ...] = ()
