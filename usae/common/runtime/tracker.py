"""Live curves in TensorBoard or Weights & Biases: `runtime.tracker`, off by default and no dependency."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from usae.common.errors import UserError

Tracker = Callable[[int, Mapping[str, float]], None]  # (step, {name: value})


def open_tracker(wanted: str | None, run: str) -> Tracker | None:
    """The tracker that `wanted` (null | tensorboard:FOLDER | wandb:PROJECT) names; a resumed `run` goes on in it.

    Raises:
        UserError: its package is not installed.
    """
    if wanted is None:
        return None
    kind, _, destination = wanted.partition(":")
    return {"tensorboard": _tensorboard, "wandb": _wandb}[kind](destination, run)


def _tensorboard(folder: str, run: str) -> Tracker:
    writer = _imported("tensorboard", "torch.utils.tensorboard").SummaryWriter(str(Path(folder) / run))

    def track(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return track


def _wandb(project: str, run: str) -> Tracker:
    opened = _imported("wandb", "wandb").init(project=project, id=run, name=run, resume="allow")
    return lambda step, values: opened.log(dict(values), step=step)


def _imported(package: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"`runtime.tracker` asks for {package}, which is not installed here ({error}). Run "
            f"`pip install {package}`, or set `runtime.tracker: null`."
        ) from error
