"""The same measures of the universal SAE and of its controls, trained and before their first step (stage
`contrast`).

So every number of the universal SAE stands beside that of a run in which nothing can be shared, of networks that
have learnt nothing, and of its own start, which has learnt nothing yet: the difference is what training adds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import load_with_untrained
from usae.common.layout import START, Layout
from usae.common.params import MeasureParams, Params
from usae.common.runtime.cluster import HERE, Workers, worker_device, workers
from usae.common.runtime.parallel import side_by_side
from usae.common.runtime.progress import progress
from usae.common.tables import Table, no_rows
from usae.common.types import Array
from usae.evidence.controls.names import HALF, RUN, SEED, beside_controls
from usae.evidence.controls.variants import controls
from usae.evidence.estimators import load_estimator
from usae.evidence.metrics.contrast.measured import HeldOut, Measured, most_bytes
from usae.evidence.metrics.contrast.numbers import control_numbers, stability_numbers
from usae.evidence.metrics.contrast.sensitivity import repeated_frame, sensitivity_frame
from usae.evidence.metrics.contrast.stability import HeldOutCodes, all_matches
from usae.evidence.metrics.contrast.tables import (
    CONTROL_CONCEPTS,
    CONTROLS,
    REPEATED,
    SENSITIVITY,
    STABILITY,
    START_EXEMPLARS,
)
from usae.evidence.metrics.firing.exemplars import MEAN, Exemplars
from usae.evidence.metrics.funnel import Thresholds
from usae.evidence.metrics.summary import HELD_OUT

Trained = tuple[bool, str]  # whether before its first step, and the run


@dataclass(frozen=True)
class Contrasts:
    """What is contrasted, and on which held-out images.

    folders: SAEs by run, the universal one first, each with its start inside. stores, means: activations and raw
    mean token by model, of untrained networks too.
    """

    folders: Mapping[str, Path]
    stores: Mapping[str, ActivationStore]
    means: Mapping[str, Array]
    params: MeasureParams
    seed: int
    device: torch.device

    @classmethod
    def load(cls, params: Params, layout: Layout, store_root: Path, device: torch.device) -> "Contrasts":
        """The universal SAE and all its controls in `layout`.

        Raises:
            UserError: an SAE or held-out activations are missing.
        """
        manifests = load_with_untrained(layout.manifests, layout.untrained, params.models)
        images = manifests[params.models[0]].train.images
        folders = {RUN: layout.usae, **{name: layout.controls / name for name in controls(params, images)}}
        stores = {model: manifest.open(HELD_OUT, store_root) for model, manifest in manifests.items()}
        means = {model: np.array(manifest.channel_mean) for model, manifest in manifests.items()}
        return cls(folders, stores, means, params.measure, params.seed, device)

    def opened(self, run: str, start: bool) -> HeldOut:
        """One SAE, with the activations of its models."""
        sae = load_estimator(self.folders[run] / START if start else self.folders[run]).to(self.device)
        return HeldOut(
            sae, {model: self.stores[model] for model in sae.models}, self.params, self.seed, self.device
        )

    @property
    def most_bytes(self) -> int:
        """Memory that measuring the universal SAE takes at most, and so each of the controls."""
        opened = self.opened(RUN, start=False)
        return most_bytes(opened.stores, opened.sae.concepts)

    def measured(self, there: Workers = HERE) -> dict[Trained, Measured]:
        """Every SAE, before and after training: each a task of the workers, or a process of this machine."""
        each = [(start, run) for run in self.folders for start in (False, True)]
        if there.client is None:
            found = side_by_side(self._measured, each, self.device, self.most_bytes)
        else:
            found = there.in_order(self.anywhere().measured_there, each)
        return dict(zip(each, progress(found, total=len(each), description="contrast", unit="SAE"), strict=True))

    def anywhere(self) -> "Contrasts":
        """The same by absolute paths, for processes that run elsewhere."""
        folders = {run: folder.absolute() for run, folder in self.folders.items()}
        stores = {model: replace(store, path=store.path.absolute()) for model, store in self.stores.items()}
        return replace(self, folders=folders, stores=stores)

    def measured_there(self, which: Trained) -> Measured:
        """One SAE, in a worker process: in one thread, as side by side here, so that the sums are the same."""
        torch.set_num_threads(1)
        with threadpool_limits(1, user_api="blas"):
            return replace(self, device=worker_device(self.device))._measured(which)

    def stability(self) -> pd.DataFrame:
        """Table `stability`: what comes back in SAEs of other seeds and of other images, and in their starts.

        Of the run's own concepts also where a twin stands for it: each of them is judged.
        """
        again = [run for run in self.folders if run.startswith((SEED, HALF))]
        halves = [run for run in again if run.startswith(HALF)]
        own = dict.fromkeys((RUN, beside_controls(self.folders)))
        pairs = [(one, run) for one in own for run in again]
        pairs += [(halves[0], halves[1])] if len(halves) == 2 else []
        if not pairs:
            return pd.DataFrame(columns=STABILITY.names)
        frames = side_by_side(partial(self._matches, pairs), (False, True), self.device)
        return pd.concat(progress(frames, total=2, description="matched concepts"), ignore_index=True)

    def _measured(self, which: Trained) -> Measured:
        start, run = which
        return self.opened(run, start).measured()

    def _matches(self, pairs: Sequence[tuple[str, str]], start: bool) -> pd.DataFrame:
        runs = dict.fromkeys(run for pair in pairs for run in pair)
        codes = {run: self._codes(run, start) for run in runs}
        return all_matches(codes, pairs, self.params.threshold).assign(start=start)

    def _codes(self, run: str, start: bool) -> HeldOutCodes:
        opened = self.opened(run, start)
        return HeldOutCodes.of(opened.sae, opened.stores, self.means, self.params.threshold, self.device)


def contrast_tables(contrasts: Contrasts, dask: str | None = None) -> dict[Table, pd.DataFrame]:
    """Tables `controls`, `control_concepts`, `stability`, `sensitivity`, `repeated` and `start_exemplars`.

    Without controls, in a quick run, how the counts hang on thresholds and images is not asked. `dask`: where each
    SAE is measured, see `runtime.dask`.
    """
    with workers(dask) as there:  # has ended before processes are forked
        measured = contrasts.measured(there)
    stability = contrasts.stability()
    concepts = pd.concat(list(_concepts(measured)), ignore_index=True)
    models = measured[False, RUN].firing.models
    asked = Thresholds(contrasts.params.agreement)
    numbers = [control_numbers(measured, concepts, stability, models, asked), stability_numbers(stability, asked)]
    compared = beside_controls(contrasts.folders)
    variants = {start: contrasts.opened(compared, start) for start in (False, True)}
    tables = {
        CONTROLS: pd.concat(numbers, ignore_index=True),
        CONTROL_CONCEPTS: concepts,
        STABILITY: stability,
        START_EXEMPLARS: exemplars_frame(contrasts.opened(RUN, start=True)),
    }
    if len(contrasts.folders) == 1:
        return tables | {SENSITIVITY: no_rows(SENSITIVITY), REPEATED: no_rows(REPEATED)}
    further = {
        SENSITIVITY: partial(sensitivity_frame, variants, concepts, stability, models, asked),
        REPEATED: partial(repeated_frame, variants, concepts, models, asked),
    }
    frames = progress(
        side_by_side(_called, list(further.values()), contrasts.device, contrasts.most_bytes),
        total=len(further),
        description="thresholds and halves of the images",
        unit="table",
    )
    return tables | dict(zip(further, frames, strict=True))


def exemplars_frame(opened: HeldOut) -> pd.DataFrame:
    """Table `start_exemplars`: the held-out images that show each concept of an SAE best."""
    best = Exemplars(tuple(opened.sae.models), opened.sae.concepts, opened.params.exemplars)
    for chunks in opened.encoded(np.arange(opened.images)):
        best.update(chunks)
    return best.frame().query("ranking == @MEAN", local_dict={"MEAN": MEAN}).drop(columns="ranking")


def _concepts(measured: Mapping[Trained, Measured]) -> Iterator[pd.DataFrame]:
    for (start, run), found in measured.items():
        yield found.evidence.assign(run=run, start=start)


def _called(make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    return make()
