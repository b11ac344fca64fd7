"""An SAE before its first step."""

from usae.training.start.calibration import calibrate
from usae.training.start.initialisation import new_sae, set_statistics

__all__ = ["calibrate", "new_sae", "set_statistics"]
