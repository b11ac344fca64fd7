"""Progress bars with rate and time left; silent when the output is not a terminal, but for `reported`, and in
processes of a stage.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing import parent_process
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_SECONDS = 60.0  # between two lines of the log

log = logging.getLogger("usae")


def progress(
    iterable: Iterable[T],
    *,
    total: int | None = None,
    description: str = "",
    unit: str = "it",
    done: int = 0,
    shown: bool = True,
) -> "tqdm[T]":
    """`iterable` behind a bar on stderr, if that is a terminal and it is to be `shown`; it takes `set_postfix`."""
    return tqdm(
        iterable,
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        disable=None if shown and parent_process() is None else True,
        dynamic_ncols=True,
        leave=False,
    )


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


def reported(
    steps: Iterable[T], total: int, *, description: str, unit: str, every: float = LINE_SECONDS
) -> Iterator[T]:
    """`steps` behind a bar; where there is no terminal, a line of the log now and then with the time left."""
    bar = progress(steps, total=total, description=description, unit=unit)
    started = last = time.monotonic()
    for done, step in enumerate(bar, start=1):
        now = time.monotonic()
        if bar.disable and done < total and now - last >= every:
            last = now
            left = about((now - started) / done * (total - done))
            log.info("%s: %d of %d %s, %s left", description, done, total, unit, left)
        yield step


def about(seconds: float) -> str:
    """40 -> 'less than a minute', 300 -> 'about 5 min'."""
    return "less than a minute" if seconds < LINE_SECONDS else f"about {seconds / LINE_SECONDS:,.0f} min"
