"""How much of the training images SAEs see, and how often: what is only a control may make do with less.

Stages `controls`, `onboarding` and `methods`. Any first so many of the training images are a fair sample, since
the index is in random order.
"""

from dataclasses import dataclass

from usae.common.params import Params, TrainParams


@dataclass(frozen=True)
class Portion:
    """The first `images` training images (None: all), `epochs` times."""

    images: int | None
    epochs: int

    def is_that(self, other: "Portion", images: int) -> bool:
        """Whether both are the same of a training set of so many images."""
        most, others = (min(each.images or images, images) for each in (self, other))
        return (most, self.epochs) == (others, other.epochs)

    def recipe(self, params: TrainParams) -> TrainParams:
        """`params` for so many epochs."""
        return params.model_copy(update={"epochs": self.epochs})


def run_portion(params: Params) -> Portion:
    """What the universal SAE learns from: everything."""
    return Portion(None, params.train.epochs)


def control_portion(params: Params, run: Portion) -> Portion:
    """What the controls of a `run` learn from."""
    return Portion(params.controls.images, params.controls.epochs or run.epochs)
