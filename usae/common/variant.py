"""What may differ between SAEs of one run."""

from dataclasses import dataclass

from usae.common.methods import UNIVERSAL
from usae.common.params import Pairs


@dataclass(frozen=True)
class Variant:
    """What may differ between SAEs that are trained side by side on the same batches."""

    k: int
    seed: int  # of the first weights and of the sources; the order of the images is common, but for halves
    pairs: Pairs = "matched"
    models: tuple[str, ...] | None = None  # which of the opened ones, in this order; None: all
    stranger: str | None = None  # with pairs `shuffled`: the one model whose images move; None: all do
    half: int | None = None  # 0, 1: trained on that half of the images alone, in an order of its own; None: on all
    share_of_steps: int = 1  # trained for one in so many of the run's steps
    method: str = UNIVERSAL  # or the name of a file in usae/methods/
