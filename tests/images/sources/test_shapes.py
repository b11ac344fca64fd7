"""The generated world: reproducible scenes whose captions and coverage say what is drawn."""

import hashlib
from itertools import combinations

import numpy as np
import pytest

from usae.images.sources.shapes.painting import COLOURS, SceneObject, outline_distance
from usae.images.sources.shapes.scenes import ATTRIBUTES, BACKGROUNDS, GRID, GROUPS, SHAPES, SIZE, Scene, scene

SCENES = [scene(7, number) for number in range(60)]


def digest(item: Scene) -> str:
    parts = (item.image, item.coverage, item.owner)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts) + item.caption.encode()).hexdigest()


def shares(item: Scene) -> dict[str, np.ndarray]:
    return {name: item.coverage[..., column].astype(int) for column, name in enumerate(ATTRIBUTES)}


def test_a_scene_depends_on_its_seed_and_number_only():
    again = [scene(7, number) for number in reversed(range(10))][::-1]
    assert [digest(item) for item in again] == [digest(item) for item in SCENES[:10]]
    assert len({digest(scene(seed, number)) for seed in range(4) for number in range(4)}) == 16


def test_arrays_have_the_documented_types_and_shapes():
    item = SCENES[0]
    assert (item.image.shape, item.image.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert (item.coverage.shape, item.coverage.dtype) == ((GRID, GRID, len(ATTRIBUTES)), np.uint8)
    assert item.present.shape == (len(ATTRIBUTES),)
    assert len(ATTRIBUTES) == sum(map(len, GROUPS.values())) == len(set(ATTRIBUTES))


@pytest.mark.parametrize("group", GROUPS)
def test_every_attribute_occurs(group):
    seen = np.any([item.present for item in SCENES], axis=0)
    assert all(seen[ATTRIBUTES.index(f"{group}: {name}")] for name in GROUPS[group])


def test_every_pixel_belongs_to_the_background_or_to_one_object():
    for item in SCENES:
        share = shares(item)
        for group in ("shape", "colour", "texture"):
            total = share[f"background: {item.background}"] + sum(
                share[f"{group}: {name}"] for name in GROUPS[group]
            )
            assert np.abs(total - 255).max() <= 2  # each addend is rounded


def test_coverage_counts_the_owners_pixels():
    item = next(item for item in SCENES if len(item.objects) == 3)
    for index, thing in enumerate(item.objects):
        row, column = (int(value) // 8 for value in (thing.y, thing.x))
        cell = item.owner[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        same_shape = [i + 1 for i, other in enumerate(item.objects) if other.shape == thing.shape]
        expected = round(255 * np.isin(cell, same_shape).mean())
        assert item.coverage[row, column, ATTRIBUTES.index(f"shape: {thing.shape}")] == expected, index


def test_present_is_what_objects_and_background_say():
    for item in SCENES:
        drawn = {name for thing in item.objects for name in thing.attributes} | {f"background: {item.background}"}
        assert {name for name, there in zip(ATTRIBUTES, item.present, strict=True) if there} == drawn


def test_the_caption_names_every_object_in_order():
    for item in SCENES:
        things, ground = item.caption.rsplit(" on a ", 1)
        assert ground == f"{BACKGROUNDS[item.background]} background"
        assert things.replace(" and ", ", ").split(", ") == [thing.phrase for thing in item.objects]


def test_sizes_and_articles_in_phrases():
    for thing in (thing for item in SCENES for thing in item.objects):
        words = thing.phrase.split()
        assert words[0] == ("an" if words[1].startswith("orange") else "a")
        assert ("small" in words) == (thing.radius < 10.0)
        assert ("large" in words) == (thing.radius > 15.0)
        assert words[-3:] == [thing.colour, thing.texture, thing.shape]


def test_solid_objects_show_their_colour():
    names, palette = list(COLOURS), np.array(list(COLOURS.values()))
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    checked = 0
    for item in SCENES:
        for index, thing in enumerate(item.objects):
            inside = (item.owner == index + 1) & (outline_distance(thing) < -2.5)
            if thing.texture == "solid" and inside.sum() > 20:
                mean = item.image[inside].mean(0)
                assert names[(palette @ mean).argmax()] == thing.colour
                checked += 1
    assert checked > 10


def test_objects_stay_inside_and_largely_visible():
    for item in SCENES:
        assert 1 <= len(item.objects) <= 3
        for index, thing in enumerate(item.objects):
            inside = outline_distance(thing) < 0
            assert not inside[[0, -1]].any()
            assert not inside[:, [0, -1]].any()
            assert (item.owner == index + 1).sum() > 0.5 * inside.sum()


def test_the_shapes_have_different_outlines():
    inside = {
        name: outline_distance(SceneObject(name, "red", "solid", 32.0, 32.0, 20.0, 0.0, 0.0)) < 0
        for name in SHAPES
    }
    for one, other in combinations(SHAPES, 2):
        union = (inside[one] | inside[other]).sum()
        assert (inside[one] & inside[other]).sum() < 0.8 * union
