"""One way in which a method answers the comparison's questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from usae.common.types import Pair
from usae.sae.estimator import Concepts


@dataclass(frozen=True)
class Reading:
    """What `fit` of `usae/methods/NAME.py` returns, one or several of them.

    form: which of the method's readings, a hub's slug say; empty where there is one. concepts: codes of each model
    from that model alone; None where the method has no codes. r2: (source, target) -> held-out R2 about the
    channel means, and others: target -> from all other models, where they are not those of the codes. numbers:
    further ones by name, as rows of table `methods`.
    """

    form: str = ""
    concepts: Concepts | None = None
    r2: Mapping[Pair, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
