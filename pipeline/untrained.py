"""Stage `untrained@MODEL`: the same network with random weights, extracted in the same way: a control."""

from pipeline import checked_model, stage
from usae.activations.extraction.extract import extract, extraction_of
from usae.activations.store.manifests import UNTRAINED
from usae.backbones.shapes import refuse_fine_grid
from usae.backbones.weights.obtaining import obtain_untrained
from usae.common.layout import Layout
from usae.common.params import Params


@stage
def main(params: Params, model: str) -> str:
    """Pin random weights, fill the stores below `runtime.store` and write `data/untrained/MODEL.json`.

    Of the training images those that the controls learn from, of the held-out ones all.
    """
    folder = Layout().untrained
    weights = folder / "weights" / checked_model(params, model)
    refuse_fine_grid(params, model)
    obtain_untrained(params.zoo[model].backbone, weights, params.seed, model)
    manifest = extract(extraction_of(params, model, f"{UNTRAINED}{model}", weights, params.controls.images))
    file = folder / f"{model}.json"
    manifest.refuse_other(file)
    manifest.save(file)
    return manifest.size


if __name__ == "__main__":
    main()
