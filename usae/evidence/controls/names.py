"""Names of the universal SAE and its controls: folders of `data/controls`, and column `run` of the tables."""

from collections.abc import Iterable

RUN = "usae"  # the universal SAE itself
TWIN = (
    "twin"  # the same, trained as little as the controls; where they are trained as long as the run, there is none
)
SHUFFLED = "shuffled"  # trained on images re-paired between all models
UNTRAINED = "untrained"  # all networks have random weights
ONE_SHUFFLED, ONE_UNTRAINED = "shuffled-", "untrained-"  # the same of one model alone, before its slug
SEED, HALF, K = "seed-", "half-", "k-"  # before a number: another seed, one half of the images, another k
INDEPENDENT, BRIEF = "independent-", "brief-"  # before a slug: an SAE of that model alone (see `independent`)


def beside_controls(runs: Iterable[object]) -> str:
    """Which of `runs` the controls are compared with: the twin where there is one, else the run itself."""
    return TWIN if TWIN in runs else RUN


def is_null(run: str) -> bool:
    """Whether a control's models have nothing to share: all or one of them random weights, or images re-paired."""
    return run in (SHUFFLED, UNTRAINED) or run.startswith((ONE_SHUFFLED, ONE_UNTRAINED))
