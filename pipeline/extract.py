"""Stage `extract@MODEL`: one model's activations for both splits, and the manifest that stands for them."""

from pathlib import Path

from pipeline import checked_model, stage
from usae.backbones import Backbone
from usae.extraction import extract
from usae.images import load_splits
from usae.params import Params
from usae.runtime import configure


@stage
def main(params: Params, model: str) -> str:
    """Fill the stores below `runtime.store` and write `data/manifests/MODEL.json`."""
    device, entry = configure(params.runtime), params.zoo[checked_model(params, model)]
    folder = Path("data/weights") / model
    backbone = Backbone.load(folder, layer=entry.layer, norm=entry.norm, grid=params.extract.grid)
    images = load_splits(Path("data/images"), params.images.path)
    manifest = extract(model, backbone, images, params.extract, params.runtime, device)
    manifest.save(Path("data/manifests") / f"{model}.json")
    return (
        f"{manifest.train.images} + {manifest.val.images} images, {manifest.grid}² tokens, width {manifest.width}"
    )


if __name__ == "__main__":
    main()
