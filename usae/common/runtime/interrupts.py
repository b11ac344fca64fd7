"""SIGTERM and SIGINT as a request: the loop ends its step, saves a checkpoint, and raises `Interrupted`.

with graceful() as stop:
    for step in ...:
        ...
        if stop.requested:
            checkpoints.save(state)
            raise Interrupted(step, stop.signal)
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Stop:
    """signal: the number of the first one that arrived, 0 before."""

    signal: int = 0

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal != 0

    def receive(self, signum: int, _: FrameType | None) -> None:
        """Remember the first signal; SIGINT after another one ends the process at once."""
        if self.requested and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or signum
        # Not through sys.stderr: the signal may have come in the middle of a write to it.
        with suppress(OSError):
            os.write(
                2, f"\n{signal.Signals(signum).name}: saving after this step; Ctrl-C stops at once.\n".encode()
            )


def one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """In place of `sys.excepthook`: Ctrl-C says what comes next; all else as before. The status stays 130."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\nStopped by Ctrl-C. The same command goes on: what is finished is kept.\n")
    else:
        sys.__excepthook__(kind, error, trace)


@contextmanager
def graceful() -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into `stop.requested` for the block; then the handlers before it are back.

    A signal that the process ignores (as under `nohup`, or `&` in a script) stays ignored. Outside the main
    thread, where Python allows no handlers, nothing is done.
    """
    stop = Stop()
    main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.getsignal(signum) for signum in SIGNALS if main}
    handled = {signum: handler for signum, handler in before.items() if handler != signal.SIG_IGN}
    for signum in handled:
        signal.signal(signum, stop.receive)
    try:
        yield stop
    finally:
        for signum, handler in handled.items():
            signal.signal(signum, handler or signal.SIG_DFL)  # None: set by something that is not Python
