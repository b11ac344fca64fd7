"""Progress bars with rate and time left; silent when the output is not a terminal."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    iterable: Iterable[T], *, total: int | None = None, description: str = "", unit: str = "it"
) -> "tqdm[T]":
    """`iterable` behind a bar on stderr; the returned bar also takes `set_postfix`."""
    return tqdm(iterable, total=total, desc=description, unit=unit, disable=None, dynamic_ncols=True, leave=False)


def counter(total: int, *, description: str = "", unit: str = "it") -> "tqdm[None]":
    """A bar to be moved by hand: `with counter(...) as bar: bar.update(n)`."""
    return progress((), total=total, description=description, unit=unit)
