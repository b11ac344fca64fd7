"""An SAE before its first step."""

from usae.training.start.archetypes import archetypes
from usae.training.start.calibration import calibrate
from usae.training.start.initialisation import new_sae, sae_and_starts, set_statistics

__all__ = ["archetypes", "calibrate", "new_sae", "sae_and_starts", "set_statistics"]
