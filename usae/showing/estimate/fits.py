"""Does the run fit on the disk, in memory and on the GPU; and where not, what to change."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from usae.activations.sampling.order import TOKEN_WINDOW
from usae.activations.sampling.resident import ROOM
from usae.common.files.whole import size_text
from usae.common.params import Params
from usae.common.runtime.memory import free_memory
from usae.showing.estimate.small import Sizes
from usae.showing.estimate.stages import STATE_BYTES, StageCost, Training

WORK_COPIES = 4  # of a batch's pre-codes and of its reconstructions, while a step is computed


@dataclass(frozen=True)
class Machine:
    """Bytes free: on the disk of the stores, of memory, and of the GPU (None: there is none)."""

    disk: int
    memory: int
    gpu: int | None


def machine(disk: int, device: torch.device) -> Machine:
    """This one, as it is now."""
    return Machine(disk, free_memory(), gpu_free(device))


def gpu_free(device: torch.device) -> int | None:
    """Bytes free on the GPU; None where the device is none."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def training_bytes(each: Training, params: Params, sizes: Sizes) -> tuple[int, int]:
    """Of SAEs that are trained side by side: what lies beside them on the device, and the batches that are read.

    Weights, gradients and moments of all; of one step its pre-codes and reconstructions; two windows of batches.
    """
    widths = sum(sizes.widths.values())
    models = each.models(params) / len(params.models)
    state = STATE_BYTES * 2 * params.train.dictionary * widths * models
    tokens = params.train.batch_images * params.extract.grid**2
    step = 4 * WORK_COPIES * tokens * (params.train.dictionary + widths)
    window = 2 * (TOKEN_WINDOW if params.train.shuffle_tokens else 1) * params.train.batch_images
    parts = len({variant.half for variant in each.variants.values()})
    stores = 2 if each.stage == "controls" else 1
    return round(state + step), window * parts * stores * sizes.image_bytes(params)


def verdicts(
    params: Params, sizes: Sizes, costs: Sequence[StageCost], trained: Sequence[Training], here: Machine
) -> Iterator[str]:
    """A sentence for each thing that does not fit, with the parameter to change and a value for it."""
    yield from _disk(params, sizes, costs, here)
    for each in trained:
        state, batches = training_bytes(each, params, sizes)
        for name, free in {"memory": here.memory, "the GPU's memory": here.gpu}.items():
            if free is not None and state + batches > free:
                yield (
                    f"`{each.stage}` needs {size_text(state + batches)} of {name}, {size_text(free)} are free: "
                    f"{_smaller(each, params, sizes, free)}."
                )


def resident(each: Training, params: Params, sizes: Sizes, here: Machine) -> str:
    """Where the training set of a stage lies."""
    need = each.read(params, sizes)
    if here.gpu is not None and need < ROOM * here.gpu:
        return "on the GPU"
    return "in the page cache" if need < here.memory else "on the disk"


def _disk(params: Params, sizes: Sizes, costs: Sequence[StageCost], here: Machine) -> Iterator[str]:
    need = sum(cost.disk for cost in costs)
    if need <= here.disk:
        return
    one = sizes.image_bytes(params)
    controls = min(params.controls.images or sizes.train, sizes.train)
    left = here.disk - (need - (sizes.train + controls) * one)
    both = max(0, int(left // (2 * one)))
    advice = f"`runtime.store` on a disk that has {size_text(need)}"
    if both:
        advice += f", or `images.train: {both}` and `controls.images: null`"
    if controls == sizes.train and left > sizes.train * one:
        advice = f"`controls.images: {int((left - sizes.train * one) // one)}`, or {advice}"
    yield f"The disk has {size_text(here.disk)} free and the run needs {size_text(need)}: set {advice}."


def _smaller(each: Training, params: Params, sizes: Sizes, free: int) -> str:
    """What to lower so that a training run has room."""
    for batch in (params.train.batch_images >> halvings for halvings in range(1, 8)):
        less = params.model_copy(update={"train": params.train.model_copy(update={"batch_images": batch})})
        if batch and sum(training_bytes(each, less, sizes)) < free:
            return f"set `train.batch_images: {batch}`"
    concepts = params.train.dictionary * free // max(1, sum(training_bytes(each, params, sizes)))
    return f"set `train.dictionary: {concepts}`, or take a larger machine"
