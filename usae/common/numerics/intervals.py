"""How far a share of few counted things may lie from that of all of them."""

import math

NORMAL = 1.959964  # quantile .975 of the normal distribution: intervals of 95 %


def wilson(share: float, counted: int) -> tuple[float, float]:
    """Interval of 95 % around a `share` (0 to 1) of `counted` things (Wilson 1927); 0 to 1 where there are none.

    It asks that the things are independent of each other.
    """
    if not counted:
        return 0.0, 1.0
    square = NORMAL**2 / counted
    centre = (share + square / 2) / (1 + square)
    half = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)
