"""Clusters of tokens as concepts: the simplest that models can share.

k-means of the tokens in all models side by side, each divided by the root of its width. Concept p is, in every
model, the mean of the model's tokens that are in cluster p (Lloyd 1982).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from usae.common.seeds import generator
from usae.common.types import Array
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.methods.fitting.units import InUnits, drawn_rows
from usae.methods.runs.variants import START
from usae.sae.sparse import SparseCodes
from usae.training.start.kmeans import cluster_means, members_of

TOKENS, TOKENS_PER_CLUSTER = 20_000, 8  # drawn to be clustered: the more of the two
ITERATIONS = 10


@dataclass(frozen=True, kw_only=True)
class Clusters(InUnits):
    """A token's concepts are the k clusters whose centroids in its model are nearest, each with a code of 1.

    Slot 0 is the nearest one's, and it alone is decoded.

    centroids: model -> (c, d), means: model -> (d,), in standardised units.
    """

    centroids: Mapping[str, Array]
    means: Mapping[str, Array]

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """See `Concepts`: of each model from itself alone."""
        return {model: self._nearest(model, self.standardise(model, raw)) for model, raw in tokens.items()}

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """The nearest cluster's centroid, whatever further codes there are."""
        chosen, value = codes.indices[..., 0], codes.values[..., :1]
        return self.tensor(self.means[model]) + value * self._directions(model)[chosen]

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """Centroids as seen from the mean token."""
        return F.normalize(self._directions(model))

    def _directions(self, model: str) -> Tensor:
        return self.tensor(self.centroids[model] - self.means[model])

    def _nearest(self, model: str, rows: Tensor) -> SparseCodes:
        centroids = self.tensor(self.centroids[model])
        nearness = rows @ centroids.T - centroids.square().sum(1) / 2
        indices = nearness.topk(self.k, dim=-1, sorted=True).indices
        return SparseCodes(indices, torch.ones(indices.shape, device=indices.device))


@torch.inference_mode()
def fit(material: Material) -> list[Reading]:
    """One reading, none where there are fewer tokens than clusters.

    Under START the centroids are the drawn tokens from which k-means starts.
    """
    c = material.units.concepts
    rng = generator(material.seed, "tokens to cluster")
    rows = drawn_rows(material, max(TOKENS, TOKENS_PER_CLUSTER * c), rng)
    parts = [torch.from_numpy(each).to(material.device) / each.shape[1] ** 0.5 for each in rows.values()]
    side_by_side = torch.cat(parts, 1)
    if len(side_by_side) < c:
        return []
    first = torch.from_numpy(rng.choice(len(side_by_side), c, replace=False)).to(material.device)
    cluster = torch.full((len(side_by_side),), -1, device=material.device)
    cluster[first] = torch.arange(c, device=material.device)
    if material.run != START:
        cluster = lloyd(side_by_side, side_by_side[first])
    return [Reading(concepts=_clusters(material, rows, cluster))]


def lloyd(rows: Float[Tensor, "n d"], centres: Float[Tensor, "c d"]) -> Tensor:
    """(n,) the cluster of every row, from given centres; no cluster is left without a row.

    -|x - m|^2 / 2 is the product of (x, 1, -|x|^2 / 2) and (m, -|m|^2 / 2, 1).
    """
    lifted = _lifted(rows)
    cluster = members_of(lifted, _seen_from(centres))
    for _ in range(ITERATIONS):
        earlier, cluster = cluster, members_of(lifted, _seen_from(cluster_means(rows, cluster, len(centres))))
        if torch.equal(cluster, earlier):
            break
    return cluster


def _lifted(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones_like(rows[:, :1]), -rows.square().sum(1, keepdim=True) / 2], 1)


def _seen_from(centres: Tensor) -> Tensor:
    return torch.cat([centres, -centres.square().sum(1, keepdim=True) / 2, torch.ones_like(centres[:, :1])], 1)


def _clusters(material: Material, rows: Mapping[str, Array], cluster: Tensor) -> Clusters:
    """Concepts whose centroids are means of the rows of a cluster; those of cluster -1 are in none."""
    c, kept = material.units.concepts, cluster >= 0
    members = {model: torch.from_numpy(each).to(material.device)[kept] for model, each in rows.items()}
    return Clusters(
        units=material.units,
        models=material.models,
        concepts=c,
        k=material.k,
        device=material.device,
        centroids={model: cluster_means(own, cluster[kept], c).cpu().numpy() for model, own in members.items()},
        means={model: each.mean(axis=0) for model, each in rows.items()},
    )
