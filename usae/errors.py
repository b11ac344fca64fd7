"""Errors meant for people: full sentences that say what was expected, found, where, and what to do next."""

from collections.abc import Iterable


class UserError(Exception):
    """A fault in what the user gave; stage scripts print it without a traceback."""

    @classmethod
    def listing(cls, headline: str, faults: Iterable[str]) -> "UserError":
        """All faults of one kind at once, one bullet each, under one headline."""
        return cls("\n".join([headline, *(f"  - {fault}" for fault in faults)]))
