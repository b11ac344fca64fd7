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
    shuffled = {split: shuffled_records(group, seed, split) for split, group in records.items()}
    if "val" not in shuffled:
        (whole,) = shuffled.values()
        held_out = max(1, round(val_share * len(whole)))
        shuffled = {"train": whole[held_out:], "val": whole[:held_out]}
    if empty := [split for split, group in shuffled.items() if not group]:
        sizes = ", ".join(f"{split}: {len(group)} images" for split, group in records.items())
        raise UserError(
            f"The split {' and '.join(empty)} would be empty (found {sizes}); give more images, "
            "or lower `images.val_share`."
        )
    return {split: group[: limits[split]] for split, group in shuffled.items()}


def shuffled_records(records: list[Record], seed: int, split: str) -> list[Record]:
    """The records in an order that depends on their keys, the seed and the split's name alone."""
    ordered = sorted(records, key=lambda record: record.key)
    return [ordered[i] for i in generator(seed, "choice of images", split).permutation(len(ordered))]
