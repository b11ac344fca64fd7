"""Errors meant for people: full sentences that say what was expected, found, where, and what to do next."""

from collections.abc import Iterable


class UserError(Exception):
    """A fault in what the user gave; stage scripts print it without a traceback."""

    @classmethod
    def listing(cls, headline: str, faults: Iterable[str], most: int = 20) -> "UserError":
        """All faults of one kind at once under one headline, a bullet each; a screenful, and how many more."""
        bullets = [f"  - {fault}" for fault in faults]
        rest = [f"  - and {len(bullets) - most} more"] if len(bullets) > most else []
        return cls("\n".join([headline, *bullets[:most], *rest]))
