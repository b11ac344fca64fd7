"""A newcomer: a model that joins a finished universal SAE, by an encoder and a dictionary fitted on few images.

Both are ridge regressions (stage `onboarding`). The encoder predicts the mean of the frozen encoders' pre-codes.
The frozen encoders are affine, so this prediction is the frozen encoders applied to the best linear maps from the
newcomer's activations to the old models' activations. The dictionary, with an intercept, is the regression of the
newcomer's activations on the codes of the old models, which it has to decode.
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
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE

ROWS = 8192  # tokens encoded at once: bounds the dense pre-codes in memory


@dataclass(frozen=True)
class Newcomer:
    """Encoder and decoder of a model that joins a frozen SAE.

    encoder: standardised activations (d,) to pre-codes (c,). decoder: codes (c,) to standardised activations.
    levels: of the frozen SAE's concepts.
    """

    encoder: LinearMap
    decoder: LinearMap
    levels: Levels

    @torch.inference_mode()
    def encode(self, rows: Array) -> SparseCodes:
        """Codes of standardised tokens (n, d)."""
        blocks = (self.encoder(rows[start : start + ROWS]) for start in range(0, len(rows), ROWS))
        return concatenated([self.levels.top_k(torch.from_numpy(block.astype(np.float32))) for block in blocks])

    def decode(self, codes: sparse.csr_array) -> Array:
        """(n, d) standardised activations of codes (n, c)."""
        return self.decoder(codes)


@dataclass
class PairedSums:
    """Sums over paired tokens from which a newcomer is fitted: each to fit on, and to choose a penalty by.

    activations: of the newcomer's activations beside those of the old models. codes: of the codes of an old model
    beside the newcomer's activations, one old model's tokens after another's.
    """

    activations: tuple[Products, Products]
    codes: tuple[Products, Products]

    @classmethod
    def none(cls, origin: Array, width: int, concepts: int) -> Self:
        """Sums over no tokens, of activations about `origin` (all models side by side) and codes about 0.

        width: of the newcomer, whose columns come first.
        """
        beside_codes = np.concatenate([np.zeros(concepts), origin[:width]])
        activations, codes = ((Products.none(each), Products.none(each)) for each in (origin, beside_codes))
        return cls(activations, codes)

    def update(self, rows: Sequence[Array], codes: Sequence[sparse.csr_array], validation: Array) -> None:
        """Add n tokens.

        rows: standardised activations (n, d) per model, the newcomer's first. codes: (n, c) per old model.
        validation (n,) bool: the tokens by which the penalty is chosen.
        """
        side_by_side = np.concatenate(rows, axis=1)
        for split, tokens in enumerate((~validation, validation)):
            self.activations[split].update(side_by_side[tokens])
            for model_codes in codes:
                add_codes(self.codes[split], model_codes[tokens], rows[0][tokens])


def fit_newcomer(frozen: UniversalSAE, sums: PairedSums, spans: Mapping[str, slice]) -> Newcomer:
    """The newcomer to the frozen SAE of the old models; its columns come first in `spans`."""
    new, *old = spans
    pre_codes = [
        ridge_map(*sums.activations, spans[new], spans[model]).then(affine(frozen.part(model).encoder))
        for model in old
    ]
    encoder = LinearMap(
        np.mean([each.weights for each in pre_codes], axis=0), np.mean([each.offset for each in pre_codes], axis=0)
    )
    concepts = slice(0, frozen.concepts)
    return Newcomer(encoder, ridge_map(*sums.codes, concepts, slice(frozen.concepts, None)), frozen.levels)


@torch.inference_mode()
def affine(encoder: Encoder) -> LinearMap:
    """Linear map and BatchNorm in eval mode as one map: standardised activations (d,) to pre-codes (c,)."""
    weight, bias = encoder.affine(torch.float64)
    return LinearMap(weight.T.cpu().numpy(), bias.cpu().numpy())


def concatenated(blocks: Sequence[SparseCodes]) -> SparseCodes:
    """Codes [n, k] of one block of tokens after another."""
    return SparseCodes(
        torch.cat([block.indices for block in blocks]), torch.cat([block.values for block in blocks])
    )


def matrix(codes: SparseCodes, concepts: int) -> sparse.csr_array:
    """(n, c) of codes [n, k]; only codes above 0 are stored."""
    n, k = codes.indices.shape
    values = codes.values.double().cpu().numpy().ravel()
    columns = codes.indices.cpu().numpy().ravel()
    positive = values > 0
    rows = np.repeat(np.arange(n), k)
    return sparse.csr_array((values[positive], (rows[positive], columns[positive])), shape=(n, concepts))


def add_codes(sums: Products, codes: sparse.csr_array, rows: Array) -> None:
    """Add tokens with sparse codes (n, c) and activations (n, d) to sums of c + d columns, of codes about 0."""
    concepts = codes.shape[1]
    rows = rows - sums.origin[concepts:].astype(rows.dtype)
    square = (codes.T @ codes).tocoo()
    cross = codes.T @ rows.astype(np.float64)  # (concepts, width)
    sums.products[square.row, square.col] += square.data
    sums.products[:concepts, concepts:] += cross
    sums.products[concepts:, :concepts] += cross.T
    sums.products[concepts:, concepts:] += rows.T @ rows
    sums.total += np.concatenate([np.asarray(codes.sum(axis=0)).ravel(), rows.sum(axis=0, dtype=np.float64)])
    sums.count += len(rows)
