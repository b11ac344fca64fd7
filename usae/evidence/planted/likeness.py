"""Do the codes of a concept rise and fall together in every two models? (stage `planted`)

The co-fire proportion of all models falls with their number, and stays high where some models follow one concept
and others mostly another. The smallest correlation over pairs of models falls less, and notices the strangers.
"""

from itertools import combinations

import numpy as np

from usae.common.types import Array
from usae.evidence.codes.rows import code_rows
from usae.evidence.planted.ideal import CodeBlocks


def least_correlations(codes: CodeBlocks, concepts: int) -> Array:
    """(c,) the smallest Pearson correlation over tokens between the codes of two models, 0 where one is dead."""
    models = len(codes[0])
    pairs = list(combinations(range(models), 2))
    tokens, sums, squares = 0, np.zeros((models, concepts)), np.zeros((models, concepts))
    products = np.zeros((len(pairs), concepts))
    for chunks in codes:
        rows = [code_rows(chunk, concepts) for chunk in chunks]
        tokens += chunks[0].tokens
        sums += [each.sum(axis=0) for each in rows]
        squares += [each.multiply(each).sum(axis=0) for each in rows]
        products += [rows[one].multiply(rows[other]).sum(axis=0) for one, other in pairs]
    means = sums / tokens
    spreads = np.sqrt(np.maximum(squares / tokens - means**2, 0))
    covariances = products / tokens - [means[one] * means[other] for one, other in pairs]
    scale = np.stack([spreads[one] * spreads[other] for one, other in pairs])
    correlations = np.divide(covariances, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.asarray(correlations.min(axis=0))
