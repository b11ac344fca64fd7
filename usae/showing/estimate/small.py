"""The small runs behind an estimate: the run's own stages, with fewer images, passes and pictures.

There are two, one MANY times the other. What a stage takes in both says what it takes whatever its size, and what
it takes for each image, step or picture.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import usae
from usae.activations.store.location import ROOT_VARIABLE
from usae.activations.store.manifests import Manifest, load_manifests
from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.common.params import PARAMS_FILE, BackboneParams, Params, parse_params
from usae.common.types import Array
from usae.showing.estimate.clocks import Cost, clocks, took
from usae.showing.results.inputs import DVC_FILE
from usae.training.start.calibration import IMAGES

FEWEST = IMAGES  # training images of the smaller run: as many as a start takes its statistics of
HELD_OUT = 64  # held-out images there: of fewer, measures take no longer than they differ from run to run
LEAST = 16  # of anything else there that goes with the number of images
MANY = 2  # times as many images has the larger run
PASSES = (2, 8)  # over the training images: in the smaller run, and most in the larger one
WITHIN = 30.0  # seconds of the CPU that SAEs train in the larger run, where two passes do not take longer
TRAINED = ("train", "controls", "onboarding", "methods")


log = logging.getLogger("usae")


@dataclass(frozen=True)
class Sizes:
    """What there will be: images of both splits, and the width of every model."""

    train: int
    val: int
    widths: Mapping[str, int]

    @classmethod
    def of(cls, manifests: Mapping[str, Manifest]) -> "Sizes":
        """Those of stores."""
        one = next(iter(manifests.values()))
        return cls(one.train.images, one.val.images, {model: each.width for model, each in manifests.items()})

    def image_bytes(self, params: Params, models: Sequence[str] | None = None) -> int:
        """Activations of one image, of these models (None: all) together."""
        width = sum(self.widths[model] for model in models or self.widths)
        return params.extract.grid**2 * width * np.dtype(params.extract.dtype).itemsize


@dataclass(frozen=True)
class SmallRun:
    """params: as rehearsed. costs: seconds, seconds of the CPU and bytes of every stage."""

    params: Params
    sizes: Sizes
    costs: Mapping[str, Array]

    @classmethod
    def rehearsed(
        cls, params: Params, folder: Path, left_out: Sequence[str] = (), weights: Path | None = None
    ) -> "SmallRun":
        """All stages but some, run in the new folder `folder` by a process of its own.

        weights: of the networks, where another small run has them.

        Raises:
            UserError: a stage fails; its last words follow. Or this is no checkout.
        """
        if not Path(DVC_FILE).is_file():
            raise UserError(
                f"There is no {DVC_FILE} here ({Path.cwd()}): run `usae estimate` in a checkout's root."
            )
        (folder / "data").mkdir(parents=True)
        if weights is not None:
            Layout(folder).weights.symlink_to(weights)
        (folder / DVC_FILE).symlink_to(Path(DVC_FILE).absolute())
        (folder / PARAMS_FILE).write_text(yaml.safe_dump(params.model_dump(mode="json")), encoding="utf-8")
        costs = dict(_rehearsal(folder, left_out))
        manifests = load_manifests(Layout(folder).manifests, params.models)
        return cls(params, Sizes.of(manifests), costs)


def _rehearsal(folder: Path, left_out: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """Stage and cost of each, as soon as they are there."""
    command = [sys.executable, "-m", "usae.showing.estimate.rehearsal", *left_out]
    with (
        (folder / "words").open("w+") as words,
        subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=words, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            name, *cost = json.loads(line)
            log.info("timed %s: %.1f s", name, cost[0])
            yield name, np.array(cost)
        if process.wait():
            words.seek(0)
            raise UserError(f"A small run of the stages fails:\n{words.read()[-4000:]}")


def python_cost() -> Cost:
    """Python's start until a stage is imported: one whose imports take neither longest nor shortest."""
    before = clocks()
    subprocess.run([sys.executable, "-c", "import pipeline.measure"], env=environment(), check=True)
    return took(before)


def environment() -> dict[str, str]:
    """Of a stage in a folder of its own: with this package, and stores in the folder."""
    kept = {name: value for name, value in os.environ.items() if name not in (ROOT_VARIABLE, "DVC_ROOT")}
    return kept | {"PYTHONPATH": str(Path(usae.__file__).parents[1])}


def more_passes(few: SmallRun) -> int:
    """Passes of the larger run: as many as take WITHIN seconds, as far as the smaller one tells."""
    trained = sum(cost[1] for stage, cost in few.costs.items() if stage.partition("@")[0] in TRAINED)
    fewest, most = PASSES
    return max(fewest, min(most, int(fewest * WITHIN / (MANY * trained))))


def few_images(params: Params, train: int) -> int:
    """Training images of the smaller run: two batches, a token for every concept; at most all."""
    tokens = params.extract.grid**2
    return min(train, max(FEWEST, 2 * params.train.batch_images, -(-params.train.dictionary // tokens)))


def shrunk(params: Params, counts: tuple[int, int], times: int, passes: int) -> Params:
    """The parameters of a small run, `times` as large as the smallest one; counts: training and held-out images.

    What goes with the number of images shrinks as it does, down to LEAST; models, concepts and seeds stay.
    """
    raw: dict[str, Any] = params.model_dump(mode="json")
    images, epochs = min(counts[0], few_images(params, counts[0]) * times), min(passes, params.train.epochs)

    def part(count: int | None, least: int = LEAST) -> int | None:
        return None if count is None else min(count, max(least * times, round(count * images / counts[0])))

    def share(passes: int | None) -> int | None:
        return None if passes is None else max(1, passes * epochs // params.train.epochs)

    raw["images"] |= _pictures(params) | {"train": images, "val": part(counts[1], HELD_OUT)}
    raw["train"] |= {"epochs": epochs, "init": "paired" if params.train.init == "clusters" else params.train.init}
    raw["controls"] |= {
        "images": part(params.controls.images, params.train.batch_images),
        "epochs": share(params.controls.epochs),
    }
    raw["methods"] |= {"images": part(params.methods.images), "epochs": share(params.methods.epochs)}
    raw["encode"] |= {"train_images": part(params.encode.train_images)}
    raw["planted"] |= {"seeds": min(params.planted.seeds, times)}
    raw["ood"] |= {"most": part(params.ood.most), "images": _other_images(params)}
    raw["interventions"] |= {
        "readout_images": part(params.interventions.readout_images),
        "onboarding_images": [part(each) for each in params.interventions.onboarding_images],
    }
    raw["maximise"] |= {"steps": -(-params.maximise.steps * times**2 // MANY**4)}
    raw["runtime"] |= {"store": "data/activations", "processes": 1, "dask": None, "tracker": None}
    for model in params.models:
        raw["zoo"][model]["backbone"] |= _network(params.zoo[model].backbone)
    return parse_params(raw)


def _pictures(params: Params) -> dict[str, Any]:
    """The run's own pictures, and generated scenes where there are none yet."""
    path = params.images.path
    if path is None or not Path(path).exists():
        return {"source": "shapes", "path": None}
    return {"path": str(Path(path).absolute())}


def _other_images(params: Params) -> str | None:
    named = params.ood.images
    if named is None or named == "negatives":
        return named
    return str(Path(named).absolute()) if Path(named).exists() else "negatives"


def _network(backbone: BackboneParams) -> dict[str, Any]:
    """Where its code and its weights are; random ones in place of those that would be downloaded or trained."""
    found: dict[str, Any] = {}
    file, _, name = (backbone.factory or "").rpartition(":")
    if Path(file).is_file():
        found["factory"] = f"{Path(file).absolute()}:{name}"
    if Path(backbone.weights).is_file():
        found["weights"] = str(Path(backbone.weights).absolute())
    elif not backbone.weights.startswith("shipped:"):
        found["weights"] = "random"
    return found
