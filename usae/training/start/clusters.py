"""Concepts that start at clusters of tokens, found in all models at once.

A token is one row: its activations in every model side by side. A cluster of such rows is a kind of image patch
that all models tell from others together, and each model's part of its centre is where the concept starts there.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling import PairedActivations
from usae.common.files.sealed import TRAILER, is_sealed, write_sealed
from usae.common.seeds import generator
from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.start.calibration import point
from usae.training.start.kmeans import cluster_means, members_of, spherical_kmeans
from usae.training.start.tokens import SCALE_IMAGES, check_tokens, starting_images

SAMPLE = 65_536  # most tokens that are clustered: 2.3 GiB in 1920 channels (benchmarks/clusters.py)
PER_CONCEPT = 64  # tokens for each concept, where that is fewer


def clustered_tokens(tokens: int, concepts: int) -> int:
    """How many of the training tokens are clustered."""
    return min(tokens, SAMPLE, PER_CONCEPT * concepts)


@torch.no_grad()
def start_at_clusters(
    sae: UniversalSAE,
    data: PairedActivations,
    means: Mapping[str, Tensor],
    variant: Variant,
    kept: Path | None,
    device: torch.device,
) -> dict[str, Tensor]:
    """Start concept c of every model at one cluster of tokens, the same in all of them.

    D_j[c] is the mean of the cluster's tokens in model j, the encoder's row the same seen from the mean token
    (means: raw). The levels after the first start at clusters of what the level before leaves of every token: at
    its cluster's mean, in the one multiple that is best over all models. Each model has the same weight. Where the
    images are re-paired, so are the rows that are clustered. Returns the means that concepts start at,
    standardised: (c, d) by model.

    Raises:
        UserError: there are fewer training tokens than concepts.
    """
    check_tokens(data, sae.concepts, "clusters")
    rows, centre, scales = _rows(sae, data, means, variant, device)
    concepts, seen = [], []
    for level, own in enumerate(sae.levels.concepts):
        viewed = rows if level else rows - centre
        centres = _remembered(kept, level, viewed, own.stop - own.start)
        cluster = members_of(F.normalize(viewed), centres)
        found, looked_for = (cluster_means(each, cluster, len(centres)) for each in (rows, viewed))
        concepts.append(found)
        seen.append(looked_for)
        rows = rows - _multiple(rows, found[cluster])
    sample = data.rows(np.arange(min(data.images, SCALE_IMAGES)))
    widths = list(sae.widths.values())
    parts = zip(torch.cat(concepts).cpu().split(widths, 1), torch.cat(seen).cpu().split(widths, 1), strict=True)
    starts = {}
    for model, (own_concepts, own_seen) in zip(sae.models, parts, strict=True):
        point(sae, model, own_concepts, own_seen, sae.standardise(model, sample[model]))
        starts[model] = own_concepts * scales[model]
    return starts


def _rows(
    sae: UniversalSAE,
    data: PairedActivations,
    means: Mapping[str, Tensor],
    variant: Variant,
    device: torch.device,
) -> tuple[Float[Tensor, "n wide"], Float[Tensor, " wide"], dict[str, float]]:
    """Tokens of all models side by side, and the mean token; about it every model has a mean square of 1.

    Last, the root mean square that each model's standardised tokens are divided by for that.
    """
    total = data.images * data.tokens
    size = clustered_tokens(total, sae.concepts)
    drawn = generator(variant.seed, "cluster start").choice(total, size, replace=False)
    images, positions = np.divmod(np.sort(drawn), data.tokens)
    rows, centres, scales = [], [], {}
    for model, own_images in zip(
        sae.models, starting_images(images, data.images, sae.models, variant), strict=True
    ):
        tokens = sae.standardise(model, data.tokens_at(model, own_images, positions)).to(device)
        centre = sae.standardise(model, means[model]).to(device)
        scale = (tokens - centre).square().sum(1).mean().sqrt()
        rows.append(tokens / scale)
        centres.append(centre / scale)
        scales[model] = scale.item()
    return torch.cat(rows, 1), torch.cat(centres), scales


def _multiple(rows: Float[Tensor, "n d"], atoms: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Each atom in the multiple that is nearest to its row."""
    return (rows * atoms).sum(1, keepdim=True) / atoms.square().sum(1, keepdim=True).clamp_min(1e-12) * atoms


def _remembered(kept: Path | None, level: int, rows: Tensor, clusters: int) -> Float[Tensor, "clusters wide"]:
    """The centres of a level's clusters; from the file of an earlier run that was interrupted, if it is whole."""
    path = kept / f"{level}.centres" if kept else None
    if path and path.is_file() and is_sealed(path):
        stored = np.frombuffer(path.read_bytes()[:-TRAILER], np.float32).reshape(clusters, rows.shape[1])
        return torch.from_numpy(stored.copy()).to(rows.device)
    centres = spherical_kmeans(F.normalize(rows), clusters)
    if path:
        write_sealed(path, centres.cpu().numpy())
    return centres
