"""What may differ between SAEs of one run."""

from dataclasses import dataclass

from usae.common.methods import UNIVERSAL
from usae.common.params import Pairs


@dataclass(frozen=True)
class Variant:
    """What may differ between SAEs that are trained side by side on the same batches."""

    k: int
    seed: int  # of the first weights and of the sources; the order of the images is common
    pairs: Pairs = "matched"
    models: tuple[str, ...] | None = None  # which of the opened ones, in this order; None: all
    method: str = UNIVERSAL  # or the name of a file in usae/methods/
