"""Times of finding the largest values of each row on a CPU, beside `torch.topk`.

    python -m benchmarks.top_k [--rows 512] [--threads 1]

Prints a Markdown table; microseconds of processor time, the best of seven.
"""

import argparse
import time
from collections.abc import Callable

import torch

from usae.sae.top_k import largest

SIZES = (24, 64, 192, 256, 512, 1024, 2048, 6144)
COUNTS = (8, 16, 32, 64)


def main() -> None:
    """A row for each number of columns, a pair of times for each number that is sought."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    print(f"| columns | {' | '.join(f'{count} of them' for count in COUNTS)} |")
    print("| --- " * (len(COUNTS) + 1) + "|")
    for size in SIZES:
        codes = torch.randn(options.rows, size, generator=generator).relu()
        print(f"| {size} | {' | '.join(pair(codes, count) for count in COUNTS)} |")


def pair(codes: torch.Tensor, count: int) -> str:
    """`torch.topk` and ours, in microseconds; empty where more is sought than is there."""
    if count > codes.shape[1]:
        return ""
    theirs = best(lambda: codes.topk(count, dim=-1, sorted=False))
    return f"{theirs:.0f} -> {best(lambda: largest(codes, count)):.0f}"


def best(function: Callable[[], object], rounds: int = 7, calls: int = 5) -> float:
    """Microseconds of processor time for a call."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            function()
        times.append((time.process_time() - started) / calls * 1e6)
    return min(times)


if __name__ == "__main__":
    main()
