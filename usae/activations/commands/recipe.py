"""Sizes of a run that fit its images, put into the text of presets/own.yaml (`usae start`)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from usae.common.errors import UserError
from usae.common.params import ModelParams

PRESET = Path("presets/own.yaml")
PAPER_GRID, FINEST_GRID = 14, 16  # tokens per side: the paper's; the most that is kept of maps of one size
TOKENS_A_CONCEPT = 500  # training tokens for each concept, at least
FEWEST_CONCEPTS, MOST_CONCEPTS = 128, 4096
COARSE = 8  # concepts for each one of the coarse level
STEPS = 2000  # of training, where that is not more than MOST_EPOCHS
FEWEST_EPOCHS, MOST_EPOCHS = 8, 30
MOST_TRAIN, MOST_VAL = 10_000, 1_000  # images for an evening
FEW_IMAGES = 2000  # with fewer, a fifth of them is held out, and batches are smaller
HEADER = "# Written by `usae start`. What one changes first comes first; `usae check` finds faults.\n"
ONBOARDING = (30, 100, 300, 1000)  # training images that a newcomer learns from


def common_grid(sides: Sequence[int]) -> int:
    """Tokens per side for maps of these sides: their own where they are equal, else the paper's at most.

    The coarsest map is enlarged at most twice.
    """
    coarsest, finest = min(sides), max(sides)
    if coarsest == finest:
        return min(finest, FINEST_GRID)
    return min(finest, 2 * coarsest, PAPER_GRID)


def split(found: Mapping[str, int]) -> dict[str, Any]:
    """Values of `images` by key for the images of a source, by its own splits or `all`."""
    images = sum(found.values())
    return {
        "train": MOST_TRAIN if found.get("train", images) > MOST_TRAIN else None,
        "val": MOST_VAL if found.get("val", images // 10) > MOST_VAL else None,
        "val_share": 0.2 if images < FEW_IMAGES else 0.1,
    }


def sizes(train: int, grid: int) -> dict[str, Any]:
    """Values of params.yaml, by dotted key, for so many training images of grid * grid tokens."""
    concepts = 2 ** ((train * grid**2 // TOKENS_A_CONCEPT).bit_length() - 1) if train else FEWEST_CONCEPTS
    concepts = int(min(max(concepts, FEWEST_CONCEPTS), MOST_CONCEPTS))
    batch = 16 if train < FEW_IMAGES else 32
    epochs = -(-STEPS * batch // max(train, 1))
    return {
        "k": 16 if concepts <= 512 else 32,
        "extract.grid": grid,
        "extract.statistics_images": min(1000, train),
        "train.dictionary": concepts,
        "train.levels": [concepts // COARSE],
        "train.epochs": min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS),
        "train.batch_images": min(batch, train),
        "methods.images": min(1000, train),
        "encode.train_images": min(1000, train),
        "interventions.readout_images": min(3000, train),
        "interventions.onboarding_images": [each for each in ONBOARDING if each <= train] or [10],
    }


def params_text(models: Mapping[str, ModelParams], values: Mapping[str, Any]) -> str:
    """presets/own.yaml with these models in place of its own, and with other values at dotted keys.

    Raises:
        UserError: the preset is not there.
    """
    if not PRESET.is_file():
        raise UserError(f"{PRESET} is not here ({Path.cwd()}); run from the repository's root.")
    preset = PRESET.read_text(encoding="utf-8")
    text = preset[preset.index("\nimages:") :]
    for key, value in values.items():
        text = _with_value(text, key, value)
    zoo = {slug: model.model_dump(exclude_defaults=True) for slug, model in models.items()}
    blocks = [yaml.safe_dump(block, sort_keys=False) for block in ({"models": list(models)}, {"zoo": zoo})]
    heads = [re.search(rf"^{key}:.*$", preset, re.MULTILINE) for key in ("models", "zoo")]
    commented = [
        block.replace(block.split("\n")[0], head[0], 1) for block, head in zip(blocks, heads, strict=True) if head
    ]
    return "\n".join([HEADER, *commented]) + text


def _with_value(text: str, key: str, value: Any) -> str:
    """`text` with one value changed: a scalar, or a list in block style; the comment stays, at its column."""
    section, _, name = key.rpartition(".")
    start = text.index(f"\n{section}:") + 1 if section else 0
    indent = "  " if section else ""
    line = re.compile(rf"\n({indent}{name}:)([^#\n]*)(#[^\n]*)((?:\n{indent}- [^\n]*)*)")
    found = line.search(text, start)
    if found is None:
        raise KeyError(key)
    scalar = "" if isinstance(value, list) else yaml.safe_dump(value).removesuffix("\n...\n").strip()
    items = "".join(f"\n{indent}- {item}" for item in value) if isinstance(value, list) else ""
    column = len(found[1] + found[2])
    changed = f"\n{f'{found[1]} {scalar}'.rstrip():<{column - 1}} {found[3]}{items}"
    return text[: found.start()] + changed + text[found.end() :]
