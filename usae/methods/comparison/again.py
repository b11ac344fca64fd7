"""Which concepts of a method come back from another start of it: the match of stage `contrast`, asked of all."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore
from usae.common.types import Array
from usae.evidence.controls.names import SEED, beside_controls
from usae.evidence.metrics.contrast.numbers import found_again
from usae.evidence.metrics.contrast.stability import HeldOutCodes, all_matches
from usae.evidence.metrics.funnel import Thresholds
from usae.sae.estimator import Concepts


def universal_again(stability: pd.DataFrame, start: bool) -> dict[str, float]:
    """Of the universal SAE, or its twin, in its controls of other seeds (table `stability`); start: before its
    first step.
    """
    seeds = stability["against"].astype(str).str.startswith(SEED)
    own = beside_controls(set(stability["run"]))
    return means_again(stability[(stability["run"] == own) & seeds & (stability["start"] == start)])


def concepts_again(
    starts: Sequence[Concepts],
    stores: Mapping[str, ActivationStore],
    means: Mapping[str, Array],
    threshold: float,
    device: torch.device,
) -> dict[str, float]:
    """Of the first of `starts`, in each of the others.

    stores, means: held-out activations and raw mean token by model. threshold: a concept fires above it.
    """
    codes = {
        f"{SEED}{number}": HeldOutCodes.of(each, stores, means, threshold, device)
        for number, each in enumerate(starts)
    }
    first, *others = codes
    return means_again(all_matches(codes, [(first, other) for other in others], threshold))


def means_again(matches: pd.DataFrame) -> dict[str, float]:
    """Numbers of table `controls`, and of how many concepts (`judged`): means over the SAEs `against` of rows of
    table `stability`; none of no rows.
    """
    groups = [rows for _, rows in matches.groupby("against", sort=False)]
    if not groups:
        return {}
    numbers = [found_again(rows, Thresholds.matched) for rows in groups]
    judged = float(np.mean([rows["correlation"].notna().sum() for rows in groups]))
    return {**{name: float(np.mean([each[name][0] for each in numbers])) for name in numbers[0]}, "judged": judged}
