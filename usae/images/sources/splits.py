"""Training and held-out images: a source's own splits or a share held out, in random order, cut to a limit."""

from usae.common.errors import UserError
from usae.common.seeds import generator
from usae.images.pixels.index import Record

TRAIN_NAMES, VAL_NAMES = ("train", "training"), ("val", "valid", "validation", "test")


def split_and_limit(
    records: dict[str, list[Record]], limits: dict[str, int | None], val_share: float, seed: int
) -> dict[str, list[Record]]:
    """`train` and `val` records in random order by seed, cut to their limits.

    The splits are the source's own; where it has no `val`, a share of its images is held out.

    Raises:
        UserError: a split would be empty.
    """
    sizes = split_sizes({split: len(group) for split, group in records.items()}, limits, val_share)
    shuffled = {split: shuffled_records(group, seed, split) for split, group in records.items()}
    if "val" not in shuffled:
        (whole,) = shuffled.values()
        held_out = sizes_held_out(len(whole), val_share)["val"]
        shuffled = {"train": whole[held_out:], "val": whole[:held_out]}
    return {split: group[: sizes[split]] for split, group in shuffled.items()}


def split_sizes(sizes: dict[str, int], limits: dict[str, int | None], val_share: float) -> dict[str, int]:
    """How many images each split has of a source's: a share held out where it has no `val`, cut to the limits.

    Raises:
        UserError: a split would be empty.
    """
    splits = sizes if "val" in sizes else sizes_held_out(sum(sizes.values()), val_share)
    if empty := [split for split, size in splits.items() if not size]:
        found = ", ".join(f"{split}: {size} images" for split, size in sizes.items())
        raise UserError(
            f"The split {' and '.join(empty)} would be empty (found {found}); give more images, "
            "or lower `images.val_share`."
        )
    return {split: min(size, limits[split] or size) for split, size in splits.items()}


def sizes_held_out(images: int, val_share: float) -> dict[str, int]:
    """The splits of a source that has none of its own: a share is held out, at least one image."""
    held_out = min(images, max(1, round(val_share * images)))
    return {"train": images - held_out, "val": held_out}


def shuffled_records(records: list[Record], seed: int, split: str) -> list[Record]:
    """The records in an order that depends on their keys, the seed and the split's name alone."""
    ordered = sorted(records, key=lambda record: record.key)
    return [ordered[i] for i in generator(seed, "choice of images", split).permutation(len(ordered))]
