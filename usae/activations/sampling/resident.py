"""A whole set of activations in the memory of the device: read once, and never waited for again."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.activations.sampling.paired import PairedActivations
from usae.activations.sampling.prefetch import ahead
from usae.common.errors import UserError
from usae.common.files.whole import size_text
from usae.common.runtime.progress import progress

Resident = Literal["auto", "never", "always"]
ROOM = 0.6  # most of a GPU's free memory that a resident set may take
COPIED_AT_ONCE = 256  # images on their way to the device


def keeps(data: PairedActivations, device: torch.device, resident: Resident) -> bool:
    """Whether the whole set is to lie on the device.

    Raises:
        UserError: it has to, and has no room on this GPU.
    """
    if device.type != "cuda":
        return resident == "always"
    free, _ = torch.cuda.mem_get_info(device)
    if resident == "always" and data.bytes > free:
        raise UserError(
            f"`runtime.resident: always` keeps {size_text(data.bytes)} of activations on {device}, which has "
            f"{size_text(free)} free. Set `runtime.resident: auto`: batches are then read from the chunk files."
        )
    return resident == "always" or (resident == "auto" and data.bytes < ROOM * free)


def on_device(data: PairedActivations, device: torch.device) -> dict[str, Float[Tensor, "i t _"]]:
    """All activations as stored, by model, in the device's memory."""
    starts = range(0, data.images, COPIED_AT_ONCE)
    spans = (np.arange(start, min(start + COPIED_AT_ONCE, data.images)) for start in starts)
    read = ahead((data.gather(span) for span in spans), 2)
    whole: dict[str, Tensor] = {}
    for start, part in zip(starts, progress(read, total=len(starts), description="load"), strict=True):
        for model, rows in part.items():
            if model not in whole:
                whole[model] = rows.new_empty((data.images, *rows.shape[1:]), device=device)
            whole[model][start : start + len(rows)] = rows
    return whole
