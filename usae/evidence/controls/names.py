"""Names of the universal SAE and its controls: folders of `data/controls`, and column `run` of the tables."""

RUN = "usae"  # the universal SAE itself
SHUFFLED = "shuffled"  # trained on images re-paired between all models
UNTRAINED = "untrained"  # all networks have random weights
ONE_SHUFFLED, ONE_UNTRAINED = "shuffled-", "untrained-"  # the same of one model alone, before its slug
SEED, HALF, K = "seed-", "half-", "k-"  # before a number: another seed, one half of the images, another k
INDEPENDENT, BRIEF = "independent-", "brief-"  # before a slug: an SAE of that model alone (see `independent`)


def is_null(run: str) -> bool:
    """Whether a control's models have nothing to share: all or one of them random weights, or images re-paired."""
    return run in (SHUFFLED, UNTRAINED) or run.startswith((ONE_SHUFFLED, ONE_UNTRAINED))
