"""Stage `extract@MODEL`: one model's activations for both splits, and the manifest that stands for them."""

from pathlib import Path

from pipeline import checked_model, stage
from usae.chunks import Recipe
from usae.extraction import extract
from usae.params import Params


@stage
def main(params: Params, model: str) -> str:
    """Fill the stores below `runtime.store` and write `data/manifests/MODEL.json`."""
    entry = params.zoo[checked_model(params, model)]
    recipe = Recipe(
        model=model,
        weights=Path("data/weights") / model,
        layer=entry.layer,
        norm=entry.norm,
        images=Path("data/images"),
        root=params.images.path,
        params=params.extract,
        runtime=params.runtime,
    )
    manifest = extract(recipe)
    manifest.save(Path("data/manifests") / f"{model}.json")
    return (
        f"{manifest.train.images} + {manifest.val.images} images, {manifest.grid}² tokens, width {manifest.width}"
    )


if __name__ == "__main__":
    main()
