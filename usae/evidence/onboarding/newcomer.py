"""A model that joins a finished universal SAE: its encoder and dictionary from sums over few images.

Everything is a ridge regression. Its pre-codes should be the mean of the frozen encoders'. These are affine, so
what its activations predict of that is the same maps applied to its best linear translations. Its dictionary, with
an intercept, is the regression of its activations on the codes of each old model, which it will have to decode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import sparse

from usae.common.numerics.ridge import LinearMap, Products, ridge_map
from usae.common.types import Array
from usae.sae.layers import Encoder
from usae.sae.sparse import SparseCodes, top_k
from usae.sae.universal import UniversalSAE

ROWS = 8192  # tokens encoded at once: bounds the dense pre-codes in memory


@dataclass(frozen=True)
class Newcomer:
    """encoder: standardised activations (d,) to pre-codes (c,). decoder: codes (c,) to such activations."""

    encoder: LinearMap
    decoder: LinearMap
    k: int

    @torch.inference_mode()
    def encode(self, rows: Array) -> SparseCodes:
        """Codes of standardised tokens (n, d)."""
        parts = [
            top_k(torch.from_numpy(self.encoder(rows[start : start + ROWS]).astype(np.float32)), self.k)
            for start in range(0, len(rows), ROWS)
        ]
        return joined(parts)

    def decode(self, codes: sparse.csr_array) -> Array:
        """(n, d) standardised activations of codes (n, c)."""
        return self.decoder(codes)


@dataclass
class Lessons:
    """What a newcomer learns from, to fit on and to validate: sums over paired tokens.

    activations: the newcomer's beside those of the old models. codes: those of each old model beside the
    newcomer's activations, one model's tokens after another's.
    """

    activations: tuple[Products, Products]
    codes: tuple[Products, Products]

    @classmethod
    def none(cls, widths: Sequence[int], concepts: int) -> Self:
        """Sums over no tokens; `widths` of the newcomer and of the old models."""
        sizes = (sum(widths), concepts + widths[0])
        fit, validation = ((Products.none(np.zeros(size)), Products.none(np.zeros(size))) for size in sizes)
        return cls(fit, validation)

    def update(self, rows: Sequence[Array], codes: Sequence[sparse.csr_array], late: Array) -> None:
        """Add tokens: standardised activations, the newcomer's first, codes of the others, and which validate."""
        side_by_side = np.concatenate(rows, axis=1)
        for number, chosen in enumerate((~late, late)):
            self.activations[number].update(side_by_side[chosen])
            for part in codes:
                add_codes(self.codes[number], part[chosen], rows[0][chosen])


def learn(frozen: UniversalSAE, lessons: Lessons, spans: Mapping[str, slice]) -> Newcomer:
    """Fit a newcomer, whose columns come first in `spans`, to the frozen SAE of the others."""
    new, *old = spans
    pre_codes = [
        ridge_map(*lessons.activations, spans[new], spans[model]).then(affine(frozen.part(model).encoder))
        for model in old
    ]
    encoder = LinearMap(
        np.mean([part.weights for part in pre_codes], axis=0), np.mean([part.offset for part in pre_codes], axis=0)
    )
    concepts = slice(0, frozen.concepts)
    return Newcomer(encoder, ridge_map(*lessons.codes, concepts, slice(frozen.concepts, None)), frozen.k)


@torch.inference_mode()
def affine(encoder: Encoder) -> LinearMap:
    """Linear map and BatchNorm in eval mode as one map: standardised activations (d,) to pre-codes (c,)."""
    weight, bias = encoder.affine(torch.float64)
    return LinearMap(weight.T.cpu().numpy(), bias.cpu().numpy())


def joined(parts: Sequence[SparseCodes]) -> SparseCodes:
    """Codes of one set of tokens after another."""
    return SparseCodes(torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts]))


def matrix(codes: SparseCodes, concepts: int) -> sparse.csr_array:
    """(n, c) of codes [n, k]."""
    n, k = codes.indices.shape
    values = codes.values.double().cpu().numpy().ravel()
    columns = codes.indices.cpu().numpy().ravel()
    used = values > 0
    rows = np.repeat(np.arange(n), k)
    return sparse.csr_array((values[used], (rows[used], columns[used])), shape=(n, concepts))


def add_codes(sums: Products, codes: sparse.csr_array, rows: Array) -> None:
    """Add tokens with sparse codes (n, c) and activations (n, d) to sums of c + d columns about 0."""
    concepts = codes.shape[1]
    square = (codes.T @ codes).tocoo()
    cross = codes.T @ rows.astype(np.float64)  # (concepts, width)
    sums.products[square.row, square.col] += square.data
    sums.products[:concepts, concepts:] += cross
    sums.products[concepts:, :concepts] += cross.T
    sums.products[concepts:, concepts:] += rows.T @ rows
    sums.total += np.concatenate([np.asarray(codes.sum(axis=0)).ravel(), rows.sum(axis=0, dtype=np.float64)])
    sums.count += len(rows)
