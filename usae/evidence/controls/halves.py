"""Two halves of the training images that have none in common, for SAEs that see one alone (stage `controls`)."""

import numpy as np
import pandas as pd

from usae.common.seeds import generator
from usae.common.types import Array


def halves(classes: "pd.Series[int]", seed: int) -> tuple[Array, Array]:
    """Numbers of the images of each half, increasing: at random, half of every class, of two or more, in each.

    classes (images,): of each image; missing ones count as one class.
    """
    drawn = pd.DataFrame({"label": classes.astype("Int64").fillna(-1).to_numpy()})
    drawn["lot"] = generator(seed, "halves of the training images").random(len(drawn))
    order = drawn.sort_values(["label", "lot"], kind="stable").index.to_numpy()  # images, class by class
    return np.sort(order[::2]), np.sort(order[1::2])
