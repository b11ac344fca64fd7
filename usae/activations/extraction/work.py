"""What an extraction still has to do, how large it is, and whether the disk has room for it (stage `extract`)."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from usae.activations.store import ActivationStore, check_room
from usae.activations.store.manifests import stage_of
from usae.common.errors import UserError
from usae.common.files.whole import size_text

log = logging.getLogger("usae")


@dataclass(frozen=True)
class Work:
    """A split's store and the chunks that it still lacks."""

    model: str
    split: str
    store: ActivationStore
    chunks: tuple[int, ...]

    @property
    def images(self) -> int:
        """How many images are still to be computed."""
        return sum(len(self.store.span(chunk)) for chunk in self.chunks)

    @property
    def image_bytes(self) -> int:
        """Size of one image's activations."""
        return self.store.chunk_bytes // self.store.chunk_images

    def __str__(self) -> str:
        store = self.store
        return (
            f"{self.model} {self.split}: {store.images} images x {store.tokens} tokens x {store.width} channels, "
            f"{store.dtype.name}, {size_text(store.chunks * store.chunk_bytes)} in {store.chunks} chunks; "
            f"{len(self.chunks)} to compute"
        )

    def kept(self) -> str:
        """What an interruption leaves, and how to go on."""
        written = self.store.chunks - len(self.chunks) + sum(map(self.store.done, self.chunks))
        return (
            f"{written} of {self.store.chunks} chunks of {self.model} {self.split} are written and stay; "
            f"`dvc repro {stage_of(self.model)}` goes on from there."
        )


def announce(works: Iterable[Work]) -> None:
    """Log the size of every store and what is still to be written of it, and that the disk has room for all.

    Raises:
        UserError: it has not.
    """
    works = list(works)
    for work in works:
        log.info("%s", work)
    models = list(dict.fromkeys(work.model for work in works))
    try:
        need, have = check_room(work.store for work in works)
    except UserError as error:
        if len(models) == 1:
            raise
        together = f"They are extracted in one pass: {', '.join(models)}."
        raise UserError(f"{error} {together} `runtime.one_pass: none` extracts '{models[0]}' alone.") from error
    log.info("%s: need %s, have %s free", ", ".join(models), size_text(need), size_text(have))
