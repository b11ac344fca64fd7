"""Agreement of models layer by layer: where in depth do concepts become common? (stage `measure`, table `depth`)

Several models of a run may read one network at several layers. A concept counts for two models where it fires
often enough in both to be judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from usae.activations.store.manifests import Manifest
from usae.common.numerics.numbers import median
from usae.common.tables import no_rows
from usae.evidence.metrics.firing.counts import FiringCounts, cofire_proportion_min, lift
from usae.evidence.metrics.firing.evidence import supported
from usae.evidence.metrics.measure.tables import DEPTH


@dataclass(frozen=True)
class Stream:
    """Where a model reads. network: the first model of the same weights; place: of its layer among those read."""

    network: str
    layer: str
    place: int


def streams(manifests: Mapping[str, Manifest]) -> dict[str, Stream]:
    """By model. Layers counted from the end of a network (-1) stand behind those counted from its start, modules
    by path behind both, in the order of the models.
    """
    networks = {
        model: next(first for first, other in manifests.items() if other.backbone == manifest.backbone)
        for model, manifest in manifests.items()
    }
    order = sorted(manifests, key=lambda model: _rank(manifests[model].layer))
    return {
        model: Stream(
            networks[model],
            str(manifest.layer),
            [other for other in order if networks[other] == networks[model]].index(model),
        )
        for model, manifest in manifests.items()
    }


def depth_frame(firing: FiringCounts, where: Mapping[str, Stream], agreement: float) -> pd.DataFrame:
    """Table `depth`, where some network is read at two layers or more; `agreement`: asked of a shared concept."""
    if max(stream.place for stream in where.values()) == 0:
        return no_rows(DEPTH)
    rows = []
    for (one, model), (two, other) in permutations(enumerate(where), 2):
        fires, both = firing.fires[[one, two]], firing.together([one, two])
        judged = supported(fires)
        shares, lifts = cofire_proportion_min(both, fires)[judged], lift(both, fires, firing.tokens)[judged]
        rows.append(
            {
                "model": model,
                "network": where[model].network,
                "layer": where[model].layer,
                "place": where[model].place,
                "other": other,
                "other_network": where[other].network,
                "other_layer": where[other].layer,
                "other_place": where[other].place,
                "concepts": int(judged.sum()),
                "agreement": float(np.mean(shares)) if len(shares) else float("nan"),
                "shared": float((shares >= agreement).mean()) if len(shares) else float("nan"),
                "lift": median(lifts),
            }
        )
    return pd.DataFrame(rows)


def _rank(layer: int | str) -> tuple[int, int]:
    """What layers of one network are sorted by."""
    return (2, 0) if isinstance(layer, str) else (int(layer < 0), layer)
