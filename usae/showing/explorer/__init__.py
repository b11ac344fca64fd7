"""The concept explorer: `reports/index.html`, one file that needs no network (stage `report`)."""

from usae.showing.explorer.page import write_report

__all__ = ["write_report"]
