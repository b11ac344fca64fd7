"""A newcomer: a model that joins a finished universal SAE, by an encoder and a dictionary fitted on few images.

Both are ridge regressions (stage `onboarding`). The encoder predicts the mean of the frozen encoders' pre-codes.
The frozen encoders are affine, so this prediction is the frozen encoders applied to the best linear maps from the
newcomer's activations to the old models' activations. The dictionary, with an intercept, is the regression of the
newcomer's activations on the codes of the old models, which it has to decode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self

import numpy as np
import torch
from scipy import sparse

from usae.common.numerics.ridge import LinearMap, Products, ridge_map
from usae.common.numerics.sparse_sums import add_products
from usae.common.numerics.wide_ridge import solved_maps
from usae.common.types import Array
from usae.sae.layers import Encoder
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE

Split = tuple[Products, Products]  # of the tokens to fit on, and of those by which a penalty is chosen

ROWS = 8192  # tokens encoded at once: bounds the dense pre-codes in memory
COPIES = 7  # as large as the sums of codes, that fitting a dictionary holds at once: 6.4 at 6144 concepts


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
    """Sums over paired tokens from which newcomers are fitted: each to fit on, and to choose a penalty by.

    settings: ways of pairing, a newcomer each. activations: setting -> old model -> of the newcomer's activations
    beside that model's. codes: of the codes of an old model beside the newcomer's activations of all settings, one
    old model's tokens after another's: the codes are the same in all settings, and are summed once.
    """

    activations: Mapping[str, Mapping[str, Split]]
    codes: Split
    targets: Mapping[str, slice]

    @classmethod
    def none(cls, origins: Mapping[str, Array], concepts: int, settings: Sequence[str]) -> Self:
        """Sums over no tokens, of activations about `origins` (newcomer's first) and of codes about 0."""
        first, *others = origins
        new = origins[first]
        activations = {
            setting: {model: _none(np.concatenate([new, origins[model]])) for model in others}
            for setting in settings
        }
        ends = concepts + len(new) * np.arange(len(settings) + 1)
        targets = {setting: slice(*ends[place : place + 2].tolist()) for place, setting in enumerate(settings)}
        return cls(activations, _none(np.concatenate([np.zeros(concepts), *[new] * len(settings)])), targets)

    def update(
        self, new: Mapping[str, Array], old: Sequence[Array], codes: Sequence[sparse.csr_array], validation: Array
    ) -> None:
        """Add n tokens.

        new: standardised activations (n, d) of the newcomer in each setting. old: of each old model. codes: (n, c)
        per old model. validation (n,) bool: the tokens by which the penalty is chosen.
        """
        side_by_side = np.concatenate(list(new.values()), axis=1)
        for split, tokens in enumerate((~validation, validation)):
            for setting, sums in self.activations.items():
                for paired, rows in zip(sums.values(), old, strict=True):
                    paired[split].update(np.concatenate([new[setting][tokens], rows[tokens]], axis=1))
            for model_codes in codes:
                add_codes(self.codes[split], model_codes[tokens], side_by_side[tokens])


def fit_bytes(concepts: int, width: int, settings: int) -> int:
    """Memory that fitting takes at most: of a newcomer with `width` channels, in several settings."""
    return COPIES * 8 * (concepts + settings * width) ** 2


def fit_newcomers(frozen: UniversalSAE, sums: PairedSums) -> dict[str, Newcomer]:
    """The newcomer of each setting to the frozen SAE of the old models."""
    decoders = solved_maps(*sums.codes, slice(0, frozen.concepts), sums.targets)
    return {
        setting: Newcomer(_encoder(frozen, paired), decoders[setting], frozen.levels)
        for setting, paired in sums.activations.items()
    }


def _encoder(frozen: UniversalSAE, paired: Mapping[str, Split]) -> LinearMap:
    """The mean of the frozen encoders on the best linear maps to their models' activations."""
    pre_codes = (
        ridge_map(*sums, slice(0, -frozen.widths[model]), slice(-frozen.widths[model], None)).then(
            affine(frozen.part(model).encoder)
        )
        for model, sums in paired.items()
    )
    total = reduce(lambda one, other: LinearMap(one.weights + other.weights, one.offset + other.offset), pre_codes)
    return LinearMap(total.weights / len(paired), total.offset / len(paired))


def _none(origin: Array) -> Split:
    return Products.none(origin), Products.none(origin)


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
    cross = codes.T @ rows.astype(np.float64)  # (concepts, width)
    add_products(sums.products[:concepts, :concepts], codes, codes)
    sums.products[:concepts, concepts:] += cross
    sums.products[concepts:, :concepts] += cross.T
    sums.products[concepts:, concepts:] += rows.T @ rows
    sums.total += np.concatenate([np.asarray(codes.sum(axis=0)).ravel(), rows.sum(axis=0, dtype=np.float64)])
    sums.count += len(rows)
