"""`make demo` does every stage of dvc.yaml once and after those that it needs, also two at a time."""

import re
import subprocess

import pytest
import yaml

from tests.support.imports import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
RULE = re.compile(r"^(\w+):([\w ]*); \$\(STAGES\) ([\w ]+)$", re.MULTILINE)
RULES = {
    target: (before.split(), stages.split())
    for target, before, stages in RULE.findall((ROOT / "Makefile").read_text())
}


def paths(stage: str, *keys: str) -> set[str]:
    """Of a stage's dependencies or outputs, those that stages write; of all models at once."""
    listed = [each for key in keys for each in STAGES[stage].get(key, ())]
    names = [next(iter(each)) if isinstance(each, dict) else each for each in listed]
    return {name.split("/${")[0] for name in names if name.startswith(("data/", "reports/"))}


def overlap(one: set[str], other: set[str]) -> bool:
    return any(a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/") for a in one for b in other)


def written(stage: str) -> set[str]:
    return paths(stage, "outs", "metrics", "plots")


def done_before(target: str) -> set[str]:
    """Stages that are done when a target's first one begins."""
    return {stage for each in RULES[target][0] for stage in [*RULES[each][1], *done_before(each)]}


def test_every_stage_is_done_once():
    assert sorted(stage for _, stages in RULES.values() for stage in stages) == sorted(STAGES)


@pytest.mark.parametrize("target", RULES)
def test_a_stage_comes_after_those_whose_outputs_it_reads(target):
    before = done_before(target)
    for stage in RULES[target][1]:
        needed = {other for other in STAGES if other != stage and overlap(paths(stage, "deps"), written(other))}
        assert needed <= before, stage
        before = before | {stage}


@pytest.mark.parametrize("target", RULES)
def test_no_stage_writes_what_another_may_be_using_meanwhile(target):
    """DVC stops with an error where it would."""
    beside = {
        stage
        for other, (_, stages) in RULES.items()
        if other != target and not {*RULES[other][1]} & done_before(target)
        for stage in stages
        if not {*RULES[target][1]} & done_before(other)
    }
    for stage in RULES[target][1]:
        for other in beside:
            assert not overlap(written(stage), written(other) | paths(other, "deps")), (stage, other)


def test_make_asks_for_all_of_them():
    commands = subprocess.run(["make", "--dry-run", "page", "pictures"], cwd=ROOT, capture_output=True, text=True)
    assert commands.stdout.count("dvc --wait-for-lock repro --single-item") == len(RULES)
