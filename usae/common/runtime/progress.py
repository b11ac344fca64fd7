"""Progress with rate and time left: a bar on a terminal, elsewhere a line of the log a minute.

A stage has many bars, most of them shorter than a minute: inside `spoken` they share the minute, so that a stage
is not silent for longer than one of their steps takes.
"""

import io
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_SECONDS = 60.0  # before the first line of the log, and between two
LINE = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}{postfix}, {remaining} left"
LINE_UP = "\x1b[A"  # what tqdm writes to go back to the line of an outer bar

log = logging.getLogger("usae")


class _LogLines(io.TextIOBase):
    """A file for tqdm: what it writes becomes lines of the log. last: when that was; None: not inside `spoken`."""

    last: float | None = None

    def write(self, text: str) -> int:
        if line := text.replace(LINE_UP, "").strip():
            log.info("%s", line)
            if _LogLines.last is not None:
                _LogLines.last = time.time()
        return len(text)


@contextmanager
def spoken() -> Iterator[None]:
    """Inside, the first line of a bar comes a minute after the last line of any, or after the beginning."""
    _LogLines.last = time.time()
    try:
        yield
    finally:
        _LogLines.last = None


def progress(
    iterable: Iterable[T],
    *,
    total: int | None = None,
    description: str = "",
    unit: str = "it",
    done: int = 0,
    shown: bool = True,
    every: float = LINE_SECONDS,
) -> "tqdm[T]":
    """`iterable` behind a bar, if it is to be `shown`; it takes `set_postfix(..., refresh=False)`.

    every: seconds before a line of the log and between two, where there is no terminal. On a terminal, processes
    that a stage started show no bars: they would write over each other.
    """
    terminal = sys.stderr.isatty()
    where: dict[str, Any] = (
        {"dynamic_ncols": True}
        if terminal
        else {
            "file": _LogLines(),
            "bar_format": LINE,
            "mininterval": every,
            "delay": min(every, 1e-3),
            "miniters": 1,
            "smoothing": 0,  # the mean since the bar began: it need not have made the last line
        }
    )
    hidden = not shown or (terminal and parent_process() is not None)
    bar = tqdm(
        iterable,
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        disable=hidden,
        leave=False,
        **where,
    )
    if _LogLines.last is not None and not hidden:
        bar.last_print_t = _LogLines.last
    return bar


def counter(
    total: int, *, description: str = "", unit: str = "it", done: int = 0, shown: bool = True
) -> "tqdm[None]":
    """A bar to be moved by hand, from `done`: `with counter(...) as bar: bar.update(n)`."""
    return progress((), total=total, description=description, unit=unit, done=done, shown=shown)


def use_own_lock() -> None:
    """After a fork: the lock of all bars may have been taken by a thread that is not here."""
    tqdm.set_lock(threading.RLock())


def advance(bar: "tqdm[None]", count: int, size: int) -> None:
    """Move a bar by `count` things of `size` bytes each; MB/s appears beside the rate."""
    if not bar.disable:
        seconds = max(bar.format_dict["elapsed"], 1e-3)
        bar.set_postfix_str(f"{(bar.n + count) * size / seconds / 1e6:.1f} MB/s", refresh=False)
        bar.update(count)


def about(seconds: float) -> str:
    """40 -> 'less than a minute', 300 -> 'about 5 min'."""
    return "less than a minute" if seconds < LINE_SECONDS else f"about {seconds / LINE_SECONDS:,.0f} min"
