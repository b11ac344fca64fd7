"""Spherical k-means with a start that leaves nothing to chance.

Clusters of unit vectors by their cosine with a centre of unit norm (Dhillon and Modha 2001). It starts from the
set split in two again and again, each time the part that is widest along its first principal axis, at its mean
(PCA-Part, Su and Dy 2007): where random starts cut one region differently in every run, sets with alike tokens get
alike clusters. scikit-learn has neither the cosine nor this start, scipy's `kmeans2` no blocks and one thread.
"""

import heapq

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from usae.common.runtime.progress import progress
from usae.sae.sparse import transposed_product

ITERATIONS = 12  # of Lloyd's algorithm, at most; 25 gain nothing
AXIS_STEPS = 12  # of the power iteration for an axis
BLOCK = 4096  # rows whose cosines are in memory at once

Part = tuple[float, int, Tensor, Tensor]  # priority (the widest first), number, members, side of each


def spherical_kmeans(rows: Float[Tensor, "n d"], clusters: int) -> Float[Tensor, "clusters d"]:
    """Centres of unit norm of `clusters` clusters of unit rows; the same rows in the same order give the same."""
    centres = split_centres(rows, clusters)
    cluster = None
    for _ in progress(range(ITERATIONS), total=ITERATIONS, description="clusters", unit="iteration"):
        found = members_of(rows, centres)
        if cluster is not None and torch.equal(found, cluster):
            break
        cluster = found
        centres = F.normalize(cluster_means(rows, cluster, clusters))
    return centres


def split_centres(rows: Float[Tensor, "n d"], clusters: int) -> Float[Tensor, "clusters d"]:
    """Centres of the parts of `rows` after so many splits, each along the first principal axis of the widest part.

    Raises:
        ValueError: there are fewer rows than clusters.
    """
    if len(rows) < clusters:
        raise ValueError(f"{len(rows)} rows cannot be split into {clusters} parts.")
    parts = [_part(rows, torch.arange(len(rows), device=rows.device), 0)]
    numbers = range(1, 2 * clusters - 1, 2)
    for number in progress(numbers, total=len(numbers), description="clusters", unit="split"):
        members, side = heapq.heappop(parts)[2:]
        heapq.heappush(parts, _part(rows, members[side], number))
        heapq.heappush(parts, _part(rows, members[~side], number + 1))
    in_order = sorted(parts, key=lambda part: part[1])
    return F.normalize(torch.stack([rows[members].mean(0) for _, _, members, _ in in_order]))


def _part(rows: Tensor, members: Tensor, number: int) -> Part:
    """Members of a part, and which of them lie on one side of its mean along its first principal axis."""
    if len(members) == 1:
        return 1.0, number, members, members > -1  # last of all
    own = rows[members]
    own = own - own.mean(0)
    axis = own[own.square().sum(1).argmax()]
    for _ in range(AXIS_STEPS):
        axis = F.normalize(own.T @ (own @ axis), dim=0)
    along = own @ axis
    side = along > 0
    if side.all() or not side.any():  # all alike
        side = torch.arange(len(members), device=rows.device) < len(members) // 2
    return -float(along.square().sum()), number, members, side


def members_of(rows: Float[Tensor, "n d"], centres: Float[Tensor, "c d"]) -> Int[Tensor, " n"]:
    """The centre with which each row has the largest product; no centre is left without a row.

    One that would be gets, of clusters with several, the row that fits its own worst. Rows of zeros are not moved.
    """
    best = [(block @ centres.T).max(1) for block in rows.split(BLOCK)]
    fit, cluster = torch.cat([each.values for each in best]), torch.cat([each.indices for each in best])
    count = torch.bincount(cluster, minlength=len(centres))
    empty = (count == 0).nonzero()[:, 0].tolist()
    if not empty:
        return cluster
    fit = torch.where(rows.any(1), fit, torch.inf)
    for row in fit.argsort(stable=True).tolist():
        if not empty or fit[row] == torch.inf:
            break
        if count[cluster[row]] > 1:
            count[cluster[row]] -= 1
            cluster[row] = empty.pop()
    return cluster


def cluster_means(
    rows: Float[Tensor, "n d"], cluster: Int[Tensor, " n"], clusters: int
) -> Float[Tensor, "clusters d"]:
    """The mean of each cluster's rows; of one that has none, zeros."""
    sums = transposed_product(cluster[:, None], rows.new_ones(len(rows), 1), rows, clusters)
    return sums / torch.bincount(cluster, minlength=clusters).clamp_min(1)[:, None]
