"""What single concepts say of labels, on scores of which it is known."""

import numpy as np

from benchmarks.concept_labels import label_auc


def test_the_best_concept_is_chosen_on_one_half_and_judged_on_the_other():
    rng = np.random.default_rng(0)
    present = np.zeros((80, 3), dtype=bool)
    present[:40, 0] = True  # carried by half of the images
    present[::4, 1] = True  # by one in four, all of them in the half that chooses
    present[:15, 2] = True  # by too few
    scores = rng.random((80, 5))
    scores[:, 3] = present[:, 0]
    scores[1::2, 3] = ~present[1::2, 0]  # right where it is chosen, wrong where it is judged
    assert label_auc({"a": scores}, present) == 0
    scores[:, 3] = present[:, 0]
    assert label_auc({"a": scores}, present) == 1
    assert label_auc({"a": scores, "b": 1 - scores[:, [3]]}, present) == 0.5
