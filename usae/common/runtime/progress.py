"""Progress bars with rate and time left; silent when the output is not a terminal, and in processes of a stage."""

import threading
from collections.abc import Iterable
from multiprocessing import parent_process
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


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
