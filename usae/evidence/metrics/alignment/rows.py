"""Rows of images by number, from activation stores and code stores alike (table `alignment`)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

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
        """[images * tokens, units], dense or sparse, of increasing images."""
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
        return np.asarray(self.store.take(images).astype(np.float32).reshape(-1, self.units))


@dataclass(frozen=True)
class CodeSource:
    """The codes of one model."""

    store: CodeStore

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
        return code_rows(self.store.read(images), self.units)
