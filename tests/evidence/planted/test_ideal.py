"""Ideal codes: what shares an index, and what fires where."""

import numpy as np
import pytest

from usae.evidence.metrics.firing.counts import FiringCounts, lift
from usae.evidence.planted.ideal import common_slots, ideal_codes
from usae.evidence.planted.world import PlantedWorld


@pytest.fixture
def planted_world(params):
    small = {"widths": (8,) * 5, "shared": 4, "pairwise": 1, "most": 1, "private": 4, "twins": 2}
    return PlantedWorld.draw(params.planted.world.model_copy(update=small), 0)


def test_concepts_share_an_index_where_no_model_has_both(planted_world):
    kinds, owners, slots = planted_world.kinds, planted_world.owners, common_slots(planted_world)
    together = np.array([owners[slots == slot].sum(axis=0) for slot in range(slots.max() + 1)])  # (slots, models)
    assert together.max() == 1
    assert together.min(axis=1).sum() >= 0.8 * len(together)  # most have a concept in every model
    for concept in np.flatnonzero(kinds == "shared"):
        assert (slots == slots[concept]).sum() == 1
    for concept in np.flatnonzero(kinds == "most"):
        assert kinds[slots == slots[concept]].tolist() == ["most", "private"]
    for slot in set(slots[kinds == "twin"]):
        assert kinds[slots == slot].tolist() == ["twin"] * 5


def test_ideal_codes_fire_where_the_concept_is_and_only_in_its_models(planted_world):
    blocks = list(planted_world.blocks("val", 256, 64))
    codes, matches = ideal_codes(planted_world, blocks, 0)
    counts = FiringCounts(5, len(matches.follows), 0.0)
    for chunks in codes:
        counts.update(chunks)
    active = sum((block.activity > 0).sum(axis=(0, 1)) for block in blocks)  # (planted)
    for concept, (slot, members) in enumerate(zip(matches.joint, planted_world.owners, strict=True)):
        fires = counts.fires[members, slot]
        assert (fires <= active[concept]).all()
        assert (fires >= 0.5 * active[concept]).all()
    lifts = lift(counts.cofires, counts.fires, counts.tokens)
    shared = planted_world.kinds == "shared"
    others = np.isin(planted_world.kinds, ("pair", "most", "private"))
    assert lifts[matches.joint[shared]].min() > 10 * np.nanmax(lifts[matches.joint[others]])


def test_only_the_codes_of_shared_concepts_follow_one_concept_in_all_models(planted_world):
    matches = ideal_codes(planted_world, [], 0)[1]
    assert matches.follows[matches.joint[:4]].tolist() == [0, 1, 2, 3]
    assert (np.delete(matches.follows, matches.joint[:4]) == -1).all()
