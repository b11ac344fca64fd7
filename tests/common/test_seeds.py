"""Random streams: each has a name, no two draw alike, and nothing draws from a stream without a name."""

import ast
from functools import cache

import numpy as np

from tests.support.imports import ROOT
from usae.common.seeds import generator, seed_of

DRAWERS = ("generator", "seed_of", "torch_generator", "drawn_from")
HAND_ON = {
    "usae/showing/maximisation/ascent.py",
    "usae/training/start/first_weights.py",
}  # a name that is given them
PARTS: list[tuple[int | str, ...]] = [(), (0,), (1,), (0, 0), (0, 0, 0), (1, 0), ("train", 0), ("0",)]
# The shipped networks were trained on these scenes, from these seeds: their own way of drawing belongs to them.
OLDER = {
    "usae/images/sources/shapes/scenes.py",
    "usae/backbones/weights/pretraining/architectures.py",
    "usae/backbones/weights/pretraining/training.py",
}


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every call by a plain or dotted name in usae/ and pipeline/, with its file."""
    files = [*(ROOT / "usae").rglob("*.py"), *(ROOT / "pipeline").glob("*.py")]
    trees = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in files}
    return [(file, node) for file, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.Call)]


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@cache
def names() -> list[str]:
    """The name of every stream, once for each place that draws from it."""
    drawn = [node for _, node in calls() if called(node) in DRAWERS and len(node.args) > 1]
    return [node.args[1].value for node in drawn if isinstance(node.args[1], ast.Constant)]


def unnamed() -> set[str]:
    """The files in which a stream's name is no constant, so that `names` cannot see it."""
    drawn = [(file, node) for file, node in calls() if called(node) in DRAWERS and len(node.args) > 1]
    return {file for file, node in drawn if not isinstance(node.args[1], ast.Constant)}


def draws(rng: np.random.Generator) -> bytes:
    return rng.integers(2**63, size=4).tobytes()


def test_every_stream_has_a_name_of_its_own():
    assert len(names()) >= 20
    assert len(set(names())) == len(names())
    assert unnamed() == HAND_ON


def test_no_stream_equals_another():
    streams = {(seed, name, parts): (name, seed, parts) for name in names() for seed in (0, 1) for parts in PARTS}
    drawn = {draws(generator(seed, name, *parts)) for seed, name, parts in streams}
    assert len(drawn) == len(streams)
    older = {draws(np.random.default_rng(key)) for key in (0, [0], [1], [0, 7], [1, 7], [0, 0, 7])}
    assert not drawn & older


def test_nothing_draws_without_a_name():
    forbidden = ("default_rng", "SeedSequence", "manual_seed", "RandomState", "random.seed")
    drawn = [
        (file, node)
        for file, node in calls()
        if called(node).endswith(forbidden) and file not in OLDER and file != "usae/common/seeds.py"
    ]
    assert len(drawn) >= 4
    for file, node in drawn:
        assert called(node).endswith("manual_seed"), file
        assert ast.unparse(node.args[0]).startswith("seed_of("), file


def test_a_seed_follows_from_the_runs_seed_the_name_and_the_parts():
    seeds = [seed_of(seed, name, *parts) for seed in (0, 1, 2**31) for name in ("", "a", "ab") for parts in PARTS]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= value < 2**63 for value in seeds)
    assert seed_of(0, "a", 1) == seed_of(np.int64(0), "a", np.int32(1))


def test_a_stream_is_the_same_tomorrow():
    assert generator(0, "order of images", 3).integers(1000, size=3).tolist() == [930, 431, 836]
