"""Faults one by one: something happens to a copy of the world, a stage runs, and what comes of it is judged.

survived: the stage ends in the bytes of an undisturbed run, or refuses in a sentence that names a command. After a
kill or a full disk, the same command has to end in those bytes. raw: it refuses with a traceback, or names no
command. lost: it ends in other bytes without a word, or the same command does not go on.
"""

import os
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.faults.damage import DAMAGES, chosen, flip
from benchmarks.faults.disks import can_mount, on_small_disk
from benchmarks.faults.world import REPAIR, Outcome, Stage, copied, digests, finished, make, run, started
from usae.common.seeds import generator

COMMAND = re.compile(r"`(dvc|usae|rm|python) [^`]+`|same command")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KINDS = {  # and their shares
    "damage": 0.5,
    "repair": 0.1,
    "kill": 0.14,
    "full disk": 0.09,
    "small disk": 0.05,  # a real one, where these may be mounted
    "race": 0.06,
    "checkpoint": 0.06,
}
SURVIVED, RAW, LOST = "survived", "raw", "lost"


@dataclass(frozen=True)
class Verdict:
    """kind: of fault. what: happened to what, in which stage. why: of a verdict that is not 'survived'."""

    kind: str
    what: str
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Campaign:
    """A world in which all `stages` have run, and how long each took; faults happen to copies in `folder`."""

    folder: Path
    stages: Sequence[Stage]
    seconds: dict[str, float]

    @classmethod
    def prepared(cls, folder: Path, stages: Sequence[Stage]) -> "Campaign":
        """Run every stage once.

        Raises:
            RuntimeError: one failed.
        """
        make(folder / "whole")
        seconds = {}
        for stage in stages:
            outcome = run(stage, folder / "whole")
            if outcome.status:
                raise RuntimeError(f"{stage.title} ended with {outcome.status}: {outcome.text}")
            seconds[stage.title] = outcome.seconds
        return cls(folder, stages, seconds)

    def fault(self, seed: int, number: int) -> Verdict:
        """The fault that these two numbers draw."""
        rng = generator(seed, "faults", number)
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        return self.one(kind, rng, number)

    def one(self, kind: str, rng: np.random.Generator, number: int, stage: Stage | None = None) -> Verdict:
        """A fault of that kind; of a stage that is drawn where none is given, short ones more often."""
        weights = np.array([1 / (0.5 + self.seconds[stage.title]) for stage in self.stages])
        drawn = self.stages[int(rng.choice(len(self.stages), p=weights / weights.sum()))]
        happen = {
            "damage": self.damage,
            "repair": self.repair,
            "kill": self.kill,
            "full disk": self.full_disk,
            "small disk": self.small_disk if can_mount() else self.full_disk,
            "race": self.race,
            "checkpoint": self.checkpoint,
        }[kind]
        copy = copied(self.folder / "whole", self.folder / f"copy-{number}")
        what, verdict, why = happen(stage or drawn, copy, rng)
        return Verdict(kind, what, verdict, why)

    def damage(self, stage: Stage, copy: Path, rng: np.random.Generator) -> tuple[str, str, str]:
        """To a file that the stage reads."""
        name = chosen(list(digests(copy, stage.reads)), rng)
        if name is None:
            return f"{stage.title}: reads nothing", SURVIVED, ""
        how = str(rng.choice(list(DAMAGES)))
        if (copy / name).stat().st_size == 0:
            how = "remove"
        changed = DAMAGES[how](copy / name, rng)
        names = {str(path.relative_to(copy)) for path in changed}
        return f"{stage.title}: {how} {' and '.join(sorted(names))}", *self._judged(stage, copy, names)

    def repair(self, _: Stage, copy: Path, rng: np.random.Generator) -> tuple[str, str, str]:
        """A store is damaged, `usae store verify --repair` removes what is wrong, and extraction makes it anew."""
        stage = self._one_of(("extract", "untrained"), rng)
        name = chosen(list(digests(copy, [path for path in stage.writes if "activations" in path])), rng)
        how = str(rng.choice(list(DAMAGES)))
        changed = DAMAGES[how](copy / str(name), rng)
        names = " and ".join(str(path.relative_to(copy)) for path in changed)
        what = f"{stage.title}: {how} {names}, repaired"
        said = run(REPAIR, copy)
        if "Traceback" in said.text or said.status not in (0, 1):
            return what, RAW, said.text
        for other in self.stages:  # a file may have changed places with another model's
            outcome = run(other, copy) if other.name in ("extract", "untrained") else None
            if outcome and outcome.status:
                return what, LOST, f"{said.text}\n{outcome.text}"
        return what, *self.compared(stage, copy, set())

    def kill(self, stage: Stage, copy: Path, rng: np.random.Generator) -> tuple[str, str, str]:
        """Up to three times, then the same command again."""
        self._clear(stage, copy)
        number = SIGNALS[int(rng.integers(len(SIGNALS)))]
        moments = rng.uniform(0, self.seconds[stage.title], size=int(rng.integers(1, 4)))
        what = f"{stage.title}: {number.name} after {', '.join(f'{moment:.2f}' for moment in moments)} s"
        for moment in moments:
            child = started(stage, copy)
            time.sleep(moment)
            os.kill(child.pid, number)
            outcome = finished(child)
            if "Traceback" in outcome.text:
                return what, RAW, outcome.text
        return what, *self._judged(stage, copy, set(), must=True)

    def full_disk(self, stage: Stage, copy: Path, rng: np.random.Generator) -> tuple[str, str, str]:
        """No file may be larger than some size; then there is room again."""
        largest = max((self.folder / "whole" / name).stat().st_size for name in digests(copy, stage.writes))
        self._clear(stage, copy)
        most = int(np.exp(rng.uniform(np.log(64), np.log(largest + 1))))
        what = f"{stage.title}: files of at most {most} bytes"
        outcome = run(stage, copy, most)
        verdict, why = verdict_of(outcome)
        if verdict != SURVIVED:
            return what, verdict, why
        return what, *self._judged(stage, copy, set(), must=True)

    def small_disk(self, stage: Stage, copy: Path, rng: np.random.Generator) -> tuple[str, str, str]:
        """One folder of its outputs lies on a disk that is full, or read-only; then on the usual one."""
        sizes = {name: (self.folder / "whole" / name).stat().st_size for name in digests(copy, _outputs(stage))}
        self._clear(stage, copy)
        folder = (copy / str(rng.choice(sorted(sizes)))).parent
        room = int(rng.uniform(0, sum(sizes.values())))
        read_only = bool(rng.random() < 0.5)
        what = f"{stage.title}: {folder.relative_to(copy)} {'read-only' if read_only else f'has {room} bytes'}"
        with on_small_disk(folder, room, read_only):
            outcome = run(stage, copy)
        verdict, why = verdict_of(outcome)
        if verdict != SURVIVED:
            return what, verdict, why
        return what, *self._judged(stage, copy, set(), must=True)

    def race(self, stage: Stage, copy: Path, rng: np.random.Generator) -> tuple[str, str, str]:
        """Two at once."""
        self._clear(stage, copy)
        first = started(stage, copy)
        time.sleep(float(rng.uniform(0, self.seconds[stage.title] / 2)))
        outcomes = [finished(child) for child in (started(stage, copy), first)]
        what = f"{stage.title}: twice at once"
        for outcome in outcomes:
            if outcome.status:
                return what, RAW, outcome.text
        return what, *self.compared(stage, copy, set())

    def checkpoint(self, _: Stage, copy: Path, rng: np.random.Generator) -> tuple[str, str, str]:
        """A run that keeps checkpoints is killed, and one of these is damaged before it goes on."""
        stage = self._one_of(("train", "controls", "onboarding", "maximise"), rng)
        self._clear(stage, copy)
        child = started(stage, copy)
        time.sleep(float(rng.uniform(0.3, 0.95)) * self.seconds[stage.title])
        os.kill(child.pid, signal.SIGKILL)
        finished(child)
        files = sorted(path for path in (copy / "data/activations/training").rglob("*") if path.is_file())
        if not files:
            return f"{stage.title}: killed, nothing kept", *self._judged(stage, copy, set(), must=True)
        file = files[int(rng.integers(len(files)))]
        if file.stat().st_size:
            flip(file, rng)
        return f"{stage.title}: killed, flip {file.relative_to(copy)}", *self._judged(stage, copy, set())

    def _one_of(self, names: Sequence[str], rng: np.random.Generator) -> Stage:
        those = [stage for stage in self.stages if stage.name in names]
        return those[int(rng.integers(len(those)))]

    def _clear(self, stage: Stage, copy: Path) -> None:
        """As before the stage ran."""
        for name in digests(copy, _outputs(stage)):
            (copy / name).unlink()

    def _judged(self, stage: Stage, copy: Path, damaged: set[str], must: bool = False) -> tuple[str, str]:
        """Run the stage and judge it; must: it has to end well."""
        outcome = run(stage, copy)
        if outcome.status:
            verdict, why = verdict_of(outcome)
            return (LOST, why) if must and verdict == SURVIVED else (verdict, why)
        return self.compared(stage, copy, damaged)

    def compared(self, stage: Stage, copy: Path, damaged: set[str]) -> tuple[str, str]:
        """Whether the stage's outputs are those of the undisturbed world, what was damaged on purpose left out."""
        there, wanted = (digests(folder, _outputs(stage)) for folder in (copy, self.folder / "whole"))
        names = {name for name, _ in there.items() ^ wanted.items()} - damaged
        return (LOST, f"other bytes: {', '.join(sorted(names))}") if names else (SURVIVED, "")


def _outputs(stage: Stage) -> tuple[str, ...]:
    """Stores are outputs of the stages that extract; others read them."""
    if stage.name in ("extract", "untrained"):
        return stage.writes
    return tuple(path for path in stage.writes if not path.startswith("data/activations"))


def verdict_of(outcome: Outcome) -> tuple[str, str]:
    """What a run that did not come to its end is worth."""
    if "Traceback" in outcome.text or outcome.status < 0:
        return RAW, outcome.text[-1500:]
    if outcome.status and not COMMAND.search(outcome.text):
        return RAW, f"no command in: {outcome.text[-600:]}"
    return SURVIVED, ""
