"""Codes that are the planted activities themselves, in a dictionary too small for all (stage `planted`).

Concepts of different models share an index wherever they can: what fires there fires in many models, and is shared
by none of them. Each model overlooks part of every concept's tokens.
"""

from collections.abc import Sequence

import numpy as np

from usae.common.seeds import generator
from usae.common.types import Array
from usae.evidence.codes.store import CodeChunk
from usae.evidence.planted.recovery import Matches
from usae.evidence.planted.world import TWIN, PlantedImages, PlantedWorld

MISSED = 0.4  # largest share of a concept's tokens that a model overlooks

CodeBlocks = list[tuple[CodeChunk, ...]]  # per block of images the codes of every model


def ideal_codes(world: PlantedWorld, blocks: Sequence[PlantedImages], seed: int) -> tuple[CodeBlocks, Matches]:
    """Codes of all models for `blocks`, and where each planted concept is in them.

    Each model overlooks a share of its own, up to MISSED, of every concept's tokens.
    """
    owners, slots = world.owners, common_slots(world)
    rng = generator(seed, "ideal codes")
    rates = owners * (1 - MISSED * rng.random(owners.shape))  # (planted, models)
    codes: CodeBlocks = []
    for block in blocks:
        noticed = rng.random((*block.activity.shape, owners.shape[1])) < rates  # (b, t, planted, models)
        by_model = np.moveaxis(np.where(noticed, block.activity[..., None], 0), -1, 0)
        codes.append(tuple(_at_slots(block.image_ids, activity, slots) for activity in by_model))
    return codes, Matches.exact(slots, owners)


def common_slots(world: PlantedWorld) -> Array:
    """(g,) the index of each concept: that of its group for twins; for the others, those of many models first, the
    first one with room in all of its models.
    """
    slots = np.zeros(len(world.kinds), dtype=np.int64)
    taken = np.zeros((0, world.owners.shape[1]), dtype=bool)  # (slots, models)
    order = np.argsort(-world.owners.sum(axis=1), kind="stable")
    for concept in order[world.kinds[order] != TWIN]:
        room = ~(taken & world.owners[concept]).any(axis=1)
        slots[concept] = room.argmax() if room.any() else len(taken)
        if not room.any():
            taken = np.vstack([taken, np.zeros(taken.shape[1], dtype=bool)])
        taken[slots[concept]] |= world.owners[concept]
    twins = world.kinds == TWIN
    slots[twins] = world.leaders[twins] + len(taken)
    return slots


def _at_slots(images: Array, activity: Array, slots: Array) -> CodeChunk:
    """Codes (b, t, slots) of planted activities (b, t, g), of which each index has at most one that is not 0."""
    values = np.zeros((*activity.shape[:2], int(slots.max()) + 1), dtype=np.float32)
    image, token, planted = np.nonzero(activity)
    values[image, token, slots[planted]] = activity[image, token, planted]
    return CodeChunk(images, np.broadcast_to(np.arange(values.shape[2]), values.shape), values)
