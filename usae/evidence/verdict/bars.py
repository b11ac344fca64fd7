"""The bars of the verdict, all in one place; docs/methods.md gives the reasons at length."""

from usae.evidence.metrics.firing.evidence import SUPPORT

OWN_SHARE = 0.5  # of what a network's own SAE explains of it: below, sharing costs more than it keeps
LINEAR_SHARE = 0.5  # of what the best linear map explains of another model: below, most is lost that is there
LATE_FALL = 0.25  # of the loss's fall, in the second half of the steps: 0.5 where it falls evenly
NO_FIRES = SUPPORT  # fires of a mean concept in a model: with fewer the funnel refuses it untested
FEW_FIRES = 10 * SUPPORT  # so that a concept ten times rarer than the mean one is tested
FALSE_SHARE = 0.2  # of the run's shared concepts, in the worst control with nothing to share
SAME_COUNT = 1.0  # of them: that control shares as many as the run
FOUND_AGAIN = 0.5  # of the shared concepts, in both halves of the images: more often than not
FALSE_PLANTED = 0.1  # of the planted concepts that are not shared, called universal
