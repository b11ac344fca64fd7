"""What the universal SAE and its controls are called: in `data/controls`, and in column `run` of the tables."""

RUN = "usae"  # the universal SAE itself
SHUFFLED = "shuffled"  # trained on re-paired images
ALL_UNTRAINED = "untrained"  # of networks with random weights
ONE_UNTRAINED = "untrained-one"  # the first of them untrained
SEED, K = "seed-", "k-"  # before a number: another start, another k
