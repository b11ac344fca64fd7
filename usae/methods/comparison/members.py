"""All that is compared: methods in each of their forms and runs, opened (stage `compare`)."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from usae.activations.store import ActivationStore
from usae.activations.store.manifests import load_manifests
from usae.common.files.json_files import read_json
from usae.common.layout import START as BEFORE
from usae.common.layout import Layout
from usae.common.methods import method_module
from usae.common.params import Params
from usae.common.runtime.amounts import say_fewer
from usae.common.runtime.progress import progress
from usae.common.tables import read_table
from usae.common.types import Array
from usae.evidence.controls.names import SEED
from usae.evidence.estimators import load_estimator
from usae.evidence.metrics.contrast.tables import STABILITY
from usae.evidence.metrics.summary import HELD_OUT, TRAIN
from usae.methods.comparison.again import concepts_again, universal_again
from usae.methods.comparison.cost import cost
from usae.methods.comparison.labelled import labelled_images
from usae.methods.comparison.readings import readings, refitted
from usae.methods.fitting.material import Material
from usae.methods.fitting.reading import Reading
from usae.methods.joint.sae import FreeCrosscoder
from usae.methods.runs.variants import RUN, SHUFFLED, START, TWIN, UNTRAINED, method_variants
from usae.sae.universal import CONFIG, UniversalSAE

log = logging.getLogger("usae")

USAE = "usae"
BOUNDS, FITTED, JOINT = "bounds", "without training", "joint"


@dataclass(frozen=True)
class Member:
    """What one row of the comparison is of. run: RUN, START, TWIN, SHUFFLED, UNTRAINED or SEED and a number."""

    block: str
    method: str
    run: str
    reading: Reading

    @property
    def key(self) -> tuple[str, str, str]:
        """Method, form and run."""
        return self.method, self.reading.form, self.run


@dataclass(frozen=True)
class OpenedMethods:
    """What earlier stages made. stores: held-out activations by model, those of untrained networks too. means: raw
    mean token by model. stability: table of stage `contrast`.
    """

    params: Params
    layout: Layout
    material: Material
    before: Material
    stores: Mapping[str, ActivationStore]
    means: Mapping[str, Array]
    stability: pd.DataFrame

    @classmethod
    def load(cls, params: Params, layout: Layout, store_root: Path, device: torch.device) -> "OpenedMethods":
        """Open activations and SAEs.

        Raises:
            UserError: something is missing.
        """
        manifests = load_manifests(layout.manifests, params.models)
        random = load_manifests(layout.untrained, params.models)
        train = {model: manifest.open(TRAIN, store_root) for model, manifest in manifests.items()}
        stores = {model: each.open(HELD_OUT, store_root) for model, each in (manifests | random).items()}
        held_out = {model: stores[model] for model in manifests}
        total = min(store.images for store in train.values())
        say_fewer("methods.images", params.methods.images, total)
        images = np.linspace(0, total - 1, min(params.methods.images or total, total)).astype(np.int64)
        first = params.models[0]
        labelled = labelled_images(layout.images, (train[first], images), held_out[first])
        units = _universal(layout.usae, device)
        material, before = (
            Material(
                run,
                units,
                {model: _universal(layout.independent(model) / inside, device) for model in params.models},
                train,
                held_out,
                images,
                params.k,
                params.seed,
                device,
                labelled,
            )
            for run, inside in ((RUN, ""), (START, BEFORE))
        )
        means = {model: np.array(manifest.channel_mean) for model, manifest in manifests.items()}
        stability = read_table(layout.table(STABILITY))
        return cls(params, layout, material, before, stores, means, stability)

    @property
    def images(self) -> int:
        """Training images that there are."""
        return next(iter(self.material.stores.values())).images

    def members(self) -> Iterator[Member]:
        """Everything, the universal SAE first, opened one after another."""
        for opened in progress(self._openings(), description="compare", unit="run"):
            yield from opened

    def _openings(self) -> list[Iterator[Member]]:
        """The runs of every method, each opened when it is asked for."""
        methods, materials = self.params.methods, (self.material, self.before, self.material.repaired())
        return [
            *(self._usae(run, folder) for run, folder in self._universal_folders().items()),
            *(self._trained(name, run) for name in methods.trained for run in self._distinct(name)),
            *(self._fitted(name, material) for name in methods.fitted for material in materials),
        ]

    def _universal_folders(self) -> dict[str, Path]:
        """Where the universal SAE and its controls are, by run."""
        folders = {RUN: self.layout.usae, START: self.layout.usae / BEFORE}
        seeds = range(1, min(self.params.controls.seeds, self.params.methods.seeds) + 1)
        nulls = (SHUFFLED, UNTRAINED) if self.params.methods.nulls else (SHUFFLED,)
        twin = (TWIN,) if self.layout.twin.is_dir() else ()
        controls = (*twin, *(f"{SEED}{number}" for number in seeds), *nulls)
        return folders | {name: self.layout.controls / name for name in controls}

    def _usae(self, run: str, folder: Path) -> Iterator[Member]:
        sae = _universal(folder, self.material.device)
        numbers = self._cost(sae) if run == RUN else {}
        again = universal_again(self.stability, start=run == START) if run in (RUN, START) else {}
        yield Member(JOINT, USAE, run, Reading(concepts=sae, numbers={**numbers, **again}))
        if run in (RUN, START, TWIN, SHUFFLED):
            yield Member(JOINT, USAE, run, refitted(sae, self.material))

    def _trained(self, name: str, run: str) -> Iterator[Member]:
        module = method_module(name)
        block, batch_tokens = getattr(module, "BLOCK", JOINT), getattr(module, "BATCH_TOKENS", None)
        for called, inside in ((run, ""), (START, BEFORE)) if run == RUN else ((run, ""),):
            sae = self._opened(name, run, inside)
            numbers = self._cost(sae, batch_tokens) if called == RUN else {}
            again = self._again(name, inside) if run == RUN else {}
            for reading in readings(sae, self.material):
                found = {**numbers, **again.get(reading.form, {})}
                yield Member(block, name, called, replace(reading, numbers=found))

    def _fitted(self, name: str, material: Material) -> Iterator[Member]:
        module = method_module(name)
        for reading in module.fit(material):
            yield Member(getattr(module, "BLOCK", FITTED), name, material.run, reading)

    def _again(self, name: str, inside: str) -> dict[str, dict[str, float]]:
        """By form: which of the run's concepts, or its twin's, come back from its other starts; empty where there
        are none.
        """
        distinct = self._distinct(name)
        own = TWIN if TWIN in distinct else RUN
        runs = [run for run in distinct if run == own or run.startswith(SEED)]
        if len(runs) == 1:
            return {}
        material, threshold = self.material, self.params.measure.threshold
        forms = zip(*(readings(self._opened(name, run, inside), material) for run in runs), strict=True)
        return {
            first.form: concepts_again(
                [each.concepts for each in (first, *others) if each.concepts],
                material.held_out,
                self.means,
                threshold,
                material.device,
            )
            for first, *others in forms
        }

    def _distinct(self, name: str) -> list[str]:
        """The runs of a method, without those that ended in the bytes of an earlier one: where neither the start
        nor what is read is drawn, another seed is the same run, and no evidence.
        """
        folders = {
            run: self.layout.methods / name / run for run in method_variants(self.params, name, self.images)
        }
        first = {read_json(folder / CONFIG)["sha256"]: run for run, folder in reversed(folders.items())}
        if same := [run for run in folders if run not in first.values()]:
            log.warning("%s: %s ended as an earlier run did, to the last bit; left out", name, ", ".join(same))
        return [run for run in folders if run in first.values()]

    def _opened(self, name: str, run: str, inside: str = "") -> UniversalSAE:
        """A run of a method; `inside`: BEFORE, as it was before its first step."""
        return _universal(self.layout.methods / name / run / inside, self.material.device)

    def crosscoders(self) -> Iterator[tuple[str, str, FreeCrosscoder]]:
        """Method, run and SAE of those whose decoders have norms of their own, of these networks."""
        for name in self.params.methods.trained:
            folders = {RUN: RUN, START: f"{RUN}/{BEFORE}", SHUFFLED: SHUFFLED}
            for run, inside in folders.items():
                if run == SHUFFLED and run not in method_variants(self.params, name, self.images):
                    continue
                sae = _universal(self.layout.methods / name / inside, self.material.device)
                if isinstance(sae, FreeCrosscoder):
                    yield name, run, sae

    def _cost(self, sae: UniversalSAE, batch_tokens: int | None = None) -> Mapping[str, float]:
        tokens = next(iter(self.material.stores.values())).tokens
        return cost(sae, self.images, tokens, batch_tokens)


def _universal(folder: Path, device: torch.device) -> UniversalSAE:
    """An SAE of the family.

    Raises:
        UserError: there is none.
    """
    sae = load_estimator(folder).to(device)
    assert isinstance(sae, UniversalSAE)
    return sae
