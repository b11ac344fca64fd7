"""Do a backbone's tokens know what the generated scenes contain? Held-out linear probes, scored by ROC AUC.

Used by the `weights` stage, which sets each trained network beside the untrained one of its own architecture. One
ridge readout per attribute is fitted on the tokens of three quarters of the scenes and ranks the other tokens.
Shapes, colours and textures are asked only of tokens that lie on objects, backgrounds only of tokens that lie on
none, so that no probe is won by telling objects from backgrounds. Colour is nearly linear in the pixels: there an
untrained network reaches 0.9 and more, and the gain is small by nature.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from usae.common.numerics.ranking import roc_auc
from usae.images.sources.shapes.scenes import ATTRIBUTES, scene

MAJORITY = 128
RIDGE = 0.03
BATCH = 64
STREAM = 2_000_003

Matrix = NDArray[np.float64]


def probe_scenes(
    backbone_tokens: Callable[[Tensor], Tensor],
    *,
    seed: int = 0,
    scenes: int = 800,
    train_scenes: int | None = None,
) -> pd.DataFrame:
    """Probes a backbone on scenes that neither training nor the user's images contain.

    `backbone_tokens` maps RGB pixels in 0..1 [b, 3, 64, 64] to tokens [b, t, d]; the result is that of
    `probe_tokens`.
    """
    pictures, coverage = _drawn(STREAM + seed, scenes)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    with torch.inference_mode():
        tokens = torch.cat([backbone_tokens(part.float() / 255.0) for part in images.split(BATCH)])
    return probe_tokens(tokens.numpy(), coverage, train_scenes or scenes * 3 // 4)


def probe_tokens(tokens: NDArray[np.floating], coverage: NDArray[np.uint8], train_scenes: int) -> pd.DataFrame:
    """One row per attribute: `group, attribute, auc, positives, n`, counted over the held-out tokens.

    `tokens` [b, t, d]; `coverage` [b, grid, grid, A] as in `shapes.scenes.Scene`, t = grid * grid. A token carries
    an attribute that fills most of its cell. The first `train_scenes` scenes fit, the others are ranked.
    `auc` is NaN where the held-out tokens all carry the attribute or none does.
    """
    labels = coverage.reshape(*tokens.shape[:2], -1) >= MAJORITY  # (images, tokens, attributes)
    groups = np.array([name.split(": ")[0] for name in ATTRIBUTES])
    rows = []
    for group in dict.fromkeys(groups):
        members = groups == group
        fit, held_out = (
            _select(tokens[part], labels[part][..., members])
            for part in (slice(None, train_scenes), slice(train_scenes, None))
        )
        scores = ridge_scores(*fit, held_out[0])  # (held-out tokens, attributes of the group)
        for column, attribute in enumerate(np.array(ATTRIBUTES)[members]):
            truth = held_out[1][:, column]
            rows.append((group, attribute, roc_auc(scores[:, column], truth), int(truth.sum()), len(truth)))
    return pd.DataFrame(rows, columns=["group", "attribute", "auc", "positives", "n"])


def probe_report(trained: pd.DataFrame, untrained: pd.DataFrame) -> pd.DataFrame:
    """Two results of `probe_tokens` side by side: `group, attribute, auc_trained, auc_untrained, positives, n`."""
    report = trained.rename(columns={"auc": "auc_trained"})
    report.insert(3, "auc_untrained", untrained["auc"].to_numpy())
    return report


def group_means(report: pd.DataFrame) -> pd.DataFrame:
    """Mean of the AUC columns over the attributes of each group, groups in the order of `shapes.scenes.GROUPS`."""
    return report.groupby("group", sort=False)[["auc_trained", "auc_untrained"]].mean()


def ridge_scores(features: Matrix, targets: NDArray[np.bool_], held_out: Matrix, ridge: float = RIDGE) -> Matrix:
    """Ridge regression on standardised features: `features` [n, d], `targets` [n, A], `held_out` [h, d] to [h, A].

    `ridge` is relative: the penalty is `ridge * n` on features of unit variance.
    """
    mean, scale = features.mean(0), features.std(0) + 1e-12
    train, test = (features - mean) / scale, (held_out - mean) / scale
    gram = train.T @ train + ridge * len(train) * np.eye(train.shape[1])
    return np.asarray(test @ np.linalg.solve(gram, train.T @ (targets - targets.mean(0))))


@lru_cache(maxsize=1)  # the trained network and the untrained one see the same
def _drawn(stream: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [b, 64, 64, 3] and coverage [b, grid, grid, A] of the first scenes of a stream."""
    scenes = [scene(stream, number) for number in range(count)]
    return np.stack([item.image for item in scenes]), np.stack([item.coverage for item in scenes])


def _select(tokens: NDArray[np.floating], labels: NDArray[np.bool_]) -> tuple[Matrix, NDArray[np.bool_]]:
    """The tokens that carry some attribute of the group, and which; [n, d] and [n, members]."""
    chosen = labels.any(-1)
    return tokens[chosen].astype(np.float64), labels[chosen]
