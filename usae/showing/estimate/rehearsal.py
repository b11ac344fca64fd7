"""Every stage once, on few images, one after another in one process; and what each takes.

python -m usae.showing.estimate.rehearsal [LEFT_OUT ...], in a folder with a params.yaml and dvc.yaml: stages write
there as they do in a run; a line of JSON says what each took. `usae estimate` does so twice (`small.py`).
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from usae.common.params import Params, load_params
from usae.showing.estimate.clocks import Cost, clocks, took
from usae.showing.estimate.passes import IMAGE, image_cost
from usae.showing.estimate.starts import START, start_cost

SOON = 20.0  # seconds of the CPU of an extraction, most of them its images' where it takes longer
EACH_MODEL = ("weights", "extract", "untrained")
STAGES = (
    "images", *EACH_MODEL, "train", "controls", "encode", "contrast", "planted", "measure", "ood", "interventions",
    "onboarding", "methods", "compare", "report", "maximise",
)  # fmt: skip


def items(params: Params, stage: str) -> list[str]:
    """What a stage is run for, as its name in `dvc repro`: each model, each method, or once."""
    each = {"methods": params.methods.trained} | dict.fromkeys(EACH_MODEL, params.models)
    return [f"{stage}@{item}" for item in each[stage]] if stage in each else [stage]


def all_stages(params: Params) -> list[str]:
    """The stages of a run, in an order in which they can run."""
    return [name for stage in STAGES for name in items(params, stage)]


def rehearse(params: Params, left_out: Sequence[str] = ()) -> Iterator[tuple[str, Cost]]:
    """Every stage and its cost, Python's start left out; under START what one SAE takes before its first step, and
    under IMAGE@MODEL what an image takes in an extraction that is soon through.
    """
    scripts = {stage: import_module(f"pipeline.{stage}") for stage in STAGES}
    for name in (each for each in all_stages(params) if each not in left_out):
        stage, _, item = name.partition("@")
        before, disk = clocks(), written()
        scripts[stage].main.__wrapped__(params, *([item] if item else []))
        yield name, (cost := took(before, written() - disk))
        timed = f"{IMAGE}@{item}"
        if stage == "extract" and cost.cpu < SOON and timed not in left_out and (each := image_cost(params, item)):
            yield timed, each
        if START not in left_out and name == f"extract@{params.models[-1]}":
            yield START, start_cost(params)


def written() -> int:
    """Bytes of all files below the working folder."""
    return sum(file.stat().st_size for file in Path().rglob("*") if file.is_file() and not file.is_symlink())


def main() -> None:
    """Rehearse what the working folder's params.yaml says."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name, cost in rehearse(load_params(), sys.argv[1:]):
        sys.stdout.write(json.dumps([name, *cost]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
