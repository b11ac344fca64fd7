"""Other methods beside the universal SAE: `reports/methods.html`, one file without a network (stage `report`)."""

from usae.showing.comparison.page import write_comparison

__all__ = ["write_comparison"]
