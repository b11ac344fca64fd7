"""What the measures do with any estimator: open it, whatever its method, and read its decoder."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from usae.common.files.json_files import read_json
from usae.common.methods import UNIVERSAL, method_module
from usae.common.runtime.cluster import worker_device
from usae.common.types import Array
from usae.sae.estimator import Concepts, Estimator
from usae.sae.sparse import SparseCodes
from usae.sae.universal import CONFIG, UniversalSAE, damaged


def load_estimator(folder: str | Path) -> Estimator:
    """The estimator saved in `folder`: a universal SAE, or what `ESTIMATOR` of `usae/methods/NAME.py` is.

    The key `method` of `config.json` is NAME; a universal SAE's has none.

    Raises:
        UserError: there is none, it is damaged, of another version, or of a method that is not here.
    """
    file = Path(folder) / CONFIG
    try:
        name = read_json(file).get("method", UNIVERSAL) if file.is_file() else UNIVERSAL
    except (OSError, ValueError) as error:
        raise damaged(folder, error) from error
    if name == UNIVERSAL:
        return UniversalSAE.from_pretrained(folder)
    return cast(Estimator, method_module(name).ESTIMATOR.from_pretrained(folder))


@dataclass(frozen=True)
class Saved:
    """An estimator as worker processes are told of it: each loads it once, to a device like `device`."""

    folder: Path
    device: torch.device

    def __call__(self) -> Estimator:
        """The estimator."""
        return _loaded(self.folder, worker_device(self.device))


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path, device: torch.device) -> Estimator:
    return load_estimator(folder).to(device)


def level_ends(estimator: Concepts) -> tuple[int, ...]:
    """Concepts of its levels up to each one; a method other than the universal SAE has one level."""
    return estimator.levels.ends if isinstance(estimator, UniversalSAE) else (estimator.concepts,)


@torch.inference_mode()
def decoder_rows(estimator: Concepts, model: str) -> Float[Tensor, "c d"]:
    """What each concept adds to `model`, in standardised units, where its code is 1."""
    concepts = torch.arange(estimator.concepts, device=estimator.device)[:, None]
    nothing, one = (torch.full(concepts.shape, float(value), device=estimator.device) for value in (0, 1))
    with_it, without = (estimator.decode(model, SparseCodes(concepts, values)) for values in (one, nothing))
    return with_it - without


def contribution_norms(estimator: Concepts, models: Sequence[str]) -> Array:
    """(m, c) norms of what each concept adds to each model where its code is 1, the decoder's gain included."""
    return np.stack([decoder_rows(estimator, model).double().norm(dim=-1).cpu().numpy() for model in models])
