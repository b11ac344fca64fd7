"""Which codes of an SAE stand for which planted concepts (stage `planted`).

By direction: in each model codes and concepts are matched one to one (Hungarian, by cosine); a concept is
*found* where the cosine of its match is above 0.9. By activity: the one code that follows a concept best in all
models that have it; a concept is *tracked* where this code also has its direction. And from the other side: the
concept that a code *follows*, the one it correlates with most, where this is the same one in all models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import linear_sum_assignment

from usae.common.types import Array

FOUND = 0.9  # cosine
FOLLOWS = 0.5  # correlation


@dataclass(frozen=True)
class Matches:
    """Codes of g planted concepts in an SAE of c concepts.

    follows (c,): the planted concept that a code follows, -1 where models follow different ones. codes,
    cosines (m, g): the match by direction in each model, -1 and NaN where the model lacks the concept;
    joint (g,): the code that follows it best in all its models; joint_cosines, joint_correlations (m, g): its own.
    """

    follows: Array
    codes: Array
    cosines: Array
    joint: Array
    joint_cosines: Array
    joint_correlations: Array

    @classmethod
    def exact(cls, slots: Array, owners: Array) -> Self:
        """Codes that are the planted concepts themselves, at the indices `slots` (g,); owners (g, m)."""
        ones = np.where(owners.T, 1.0, np.nan)
        follows = np.full(slots.max() + 1, -1)
        everywhere = owners.all(axis=1)
        follows[slots[everywhere]] = np.flatnonzero(everywhere)
        return cls(follows, np.where(owners.T, slots, -1), ones, slots, ones, ones)

    @property
    def found(self) -> Array:
        """(m, g) the concept is in the model's dictionary."""
        return self.cosines > FOUND

    @property
    def agreed(self) -> Array:
        """(g,) the matches by direction are found at the same index in all models that have the concept."""
        same = (self.codes == self.codes.max(axis=0)) & self.found
        return np.asarray((same | (self.codes < 0)).all(axis=0))

    @property
    def tracked(self) -> Array:
        """(g,) one code has the concept's direction and follows its activity, in all models that have it."""
        tracks = (self.joint_cosines > FOUND) & (self.joint_correlations > FOLLOWS)
        return np.asarray((tracks | (self.codes < 0)).all(axis=0))


def match(dictionaries: Sequence[Array], directions: Sequence[Array], correlations: Array) -> Matches:
    """Codes of planted concepts from `dictionaries` (c, d) and `directions` (g, d) per model and `correlations`
    (m, c, g), with c >= g. Rows of `directions` are 0 for concepts that a model lacks.
    """
    pairs = [(_unit(rows), _unit(planted)) for rows, planted in zip(dictionaries, directions, strict=True)]
    cosines = np.stack([rows @ planted.T for rows, planted in pairs])  # (models, codes, concepts)
    owners = np.stack([planted.any(axis=1) for _, planted in pairs])  # (models, concepts)
    codes = np.full(owners.shape, -1)
    best = np.full(owners.shape, np.nan)
    for model, members in enumerate(owners):
        rows, columns = linear_sum_assignment(cosines[model][:, members], maximize=True)
        concepts = np.flatnonzero(members)[columns]
        codes[model, concepts] = rows
        best[model, concepts] = cosines[model][rows, concepts]
    joint = one_to_one((correlations * owners[:, None]).sum(axis=0) / owners.sum(axis=0))
    at_joint = [
        np.where(owners, values[:, joint, np.arange(len(joint))], np.nan) for values in (cosines, correlations)
    ]
    return Matches(followed(correlations), codes, best, joint, *at_joint)


def followed(correlations: Array) -> Array:
    """(c,) the planted concept that a code correlates with most in every model, -1 where that is not the same one;
    `correlations` (m, c, g).
    """
    strongest = correlations.argmax(axis=2)  # (models, codes)
    return np.where((strongest == strongest[0]).all(axis=0), strongest[0], -1)


def one_to_one(similarity: Array) -> Array:
    """(g,) the code of each concept in the assignment with the largest total `similarity` (c, g), c >= g."""
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    return np.asarray(rows[np.argsort(columns)])


def _unit(rows: Array) -> Array:
    """Rows at unit norm; rows of zeros stay so."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros(rows.shape), where=norms > 0))
