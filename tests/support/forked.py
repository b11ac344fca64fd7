"""Two forked processes that wait: for tests/common/runtime/test_parallel.py."""

import os
import sys
import time
from pathlib import Path

import torch

from usae.common.runtime.parallel import side_by_side

if __name__ == "__main__":
    torch.set_num_threads(2)
    folder = Path(sys.argv[1])

    def wait(number: int) -> None:
        (folder / str(os.getpid())).touch()
        time.sleep(60)

    list(side_by_side(wait, range(2), torch.device("cpu")))
