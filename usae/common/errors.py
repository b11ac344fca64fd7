"""Errors meant for people: full sentences that say what was expected, found, where, and what to do next."""

from collections.abc import Iterable
from signal import Signals


class UserError(Exception):
    """A fault in what the user gave; stage scripts print it without a traceback."""

    @classmethod
    def listing(cls, headline: str, faults: Iterable[str], most: int = 20) -> "UserError":
        """All faults of one kind at once under one headline, a bullet each; a screenful, and how many more."""
        bullets = [f"  - {fault}" for fault in faults]
        rest = [f"  - and {len(bullets) - most} more"] if len(bullets) > most else []
        return cls("\n".join([headline, *bullets[:most], *rest]))


class Diverged(UserError):  # noqa: N818 - as Interrupted
    """Training has left the finite numbers, or its loss has run away; checkpoints are from before."""


class Interrupted(UserError):  # noqa: N818 - as KeyboardInterrupt
    """A signal ended a run that has saved its state after step `step`; the status is the shell's, 130 or 143."""

    def __init__(self, step: int, signal: int) -> None:
        name = Signals(signal).name
        super().__init__(f"{name}: saved at step {step}; run the same command again to go on.")
        self.status = 128 + signal
