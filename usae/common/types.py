"""Aliases of types that many modules name."""

from typing import Any, Literal

import numpy as np

Unit = Literal["token", "image"]

Array = np.ndarray[Any, np.dtype[Any]]  # shape and dtype stand in the docstring
Pair = tuple[str, str]  # (source, target) models
