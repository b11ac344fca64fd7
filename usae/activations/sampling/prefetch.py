"""Work done ahead of its use."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, up to `depth` of them made in a background thread before they are asked for."""
    end = object()
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[T | object]] = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield cast(T, item)
    finally:
        pool.shutdown(cancel_futures=True)
