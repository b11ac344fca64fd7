"""How long the search for clusters takes, and how much memory: `python -m benchmarks.clusters --levels 128 6144`.

Random rows of a few thousand sources each, in unit norm; the sizes are those of the paper when left out.
"""

import argparse
import resource
import time

import torch
import torch.nn.functional as F

from usae.training.start.clusters import SAMPLE
from usae.training.start.kmeans import spherical_kmeans

SOURCES = 2000


def main() -> None:
    """Time one level after another."""
    options = _options()
    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(SOURCES, options.channels, generator=generator)
    rows = torch.empty(options.rows, options.channels)
    for block in rows.split(4096):
        chosen = torch.randint(SOURCES, (len(block), 8), generator=generator)
        block.copy_(sources[chosen].mean(1) + 0.1 * torch.randn(block.shape, generator=generator))
    rows = F.normalize(rows).to(device)
    for clusters in options.levels:
        began = time.perf_counter()
        spherical_kmeans(rows, clusters)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(f"{clusters} clusters of {options.rows} rows of {options.channels}: {seconds:.1f} s, {peak:.2f} GiB")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=SAMPLE)
    parser.add_argument("--channels", type=int, default=1920, help="of all models together")
    parser.add_argument("--levels", type=int, nargs="+", default=[128, 6016], help="concepts of each level")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
