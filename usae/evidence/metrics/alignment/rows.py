"""Rows of images by number, from activation stores and code stores alike (table `alignment`)."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy import sparse

from usae.activations.store import ActivationStore
from usae.common.numerics.correlation import Rows
from usae.common.types import Array
from usae.evidence.codes.rows import code_rows
from usae.evidence.codes.store import CodeStore


class Source(Protocol):
    """Rows of one model, for images by number."""

    @property
    def units(self) -> int:
        """Width of the rows."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        ...

    def rows(self, images: Array) -> Rows:
        """[images * tokens, units], dense or sparse."""
        ...


@dataclass(frozen=True)
class ActivationSource:
    """The activations of one model."""

    store: ActivationStore

    @property
    def units(self) -> int:
        """See `Source`."""
        return self.store.width

    @property
    def tokens(self) -> int:
        """See `Source`."""
        return self.store.tokens

    def rows(self, images: Array) -> Rows:
        """See `Source`."""
        increasing, order = np.unique(images, return_inverse=True)  # re-paired images come in any order
        activations = self.store.take(increasing)[order].astype(np.float32)  # (images, tokens, units)
        return activations.reshape(-1, self.units)


@dataclass(frozen=True)
class CodeSource:
    """The codes of one model."""

    store: CodeStore
    held: dict[int, sparse.csr_array] = field(default_factory=dict)  # the sample, read once

    @property
    def units(self) -> int:
        """See `Source`."""
        return self.store.concepts

    @property
    def tokens(self) -> int:
        """See `Source`."""
        return self.store.tokens

    def rows(self, images: Array) -> Rows:
        """See `Source`."""
        if missing := sorted({int(image) for image in images} - self.held.keys()):
            codes = code_rows(self.store.read(missing), self.units)
            starts = range(0, codes.shape[0], self.tokens)
            self.held.update((image, codes[n : n + self.tokens]) for image, n in zip(missing, starts, strict=True))
        rows = sparse.vstack([self.held[int(image)] for image in images], format="csr")
        return sparse.csr_array(rows)
