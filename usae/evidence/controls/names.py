"""Names of the universal SAE and its controls: folders of `data/controls`, and column `run` of the tables."""

RUN = "usae"  # the universal SAE itself
SHUFFLED = "shuffled"  # trained on images re-paired between the models
ALL_UNTRAINED = "untrained"  # all networks have random weights
ONE_UNTRAINED = "untrained-one"  # the first network has random weights
SEED, K = "seed-", "k-"  # prefixes, before a number: another seed, another k
