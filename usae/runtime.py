"""Where the arithmetic runs: device and threads, from the `runtime` section."""

import torch

from usae.errors import UserError
from usae.params import RuntimeParams


def configure(runtime: RuntimeParams) -> torch.device:
    """Set torch's threads and return the device to use (`auto`: the GPU where there is one).

    Raises:
        UserError: the device is not there.
    """
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if runtime.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"`runtime.device` is '{runtime.device}', but torch {torch.__version__} sees no GPU here; "
            "set `runtime.device: auto` or cpu."
        )
    return torch.device(runtime.device)
