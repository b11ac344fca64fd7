"""Stage `images`: list the images of both splits, check that each can be read, write `data/images/`."""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.amounts import say_fewer
from usae.images.sources.writing import write_images


@stage
def main(params: Params) -> str:
    """Write `data/images/{train,val}.parquet`, and for the generated world its truth beside them."""
    counts = write_images(Layout().images, params.images, params.seed, params.runtime.workers)
    say_fewer("images.train", params.images.train, counts["train"].found)
    say_fewer("images.val", params.images.val, counts["val"].found, "held-out")
    return ", ".join(
        f"{split} {count.readable} images, {count.skipped} skipped" for split, count in counts.items()
    )


if __name__ == "__main__":
    main()
