"""The concept explorer: `reports/index.html` and what lies beside it, without a network (stage `report`)."""

from usae.showing.explorer.page import write_report

__all__ = ["write_report"]
