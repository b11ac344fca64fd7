"""Stage `extract@MODEL`: one model's activations for both splits, and the manifest that stands for them."""

from pipeline import checked_model, stage
from usae.activations.extraction.extract import companions_of, extract, extraction_of
from usae.backbones.shapes import refuse_fine_grid
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.amounts import say_fewer


@stage
def main(params: Params, model: str) -> str:
    """Fill the stores below `runtime.store` and write `data/manifests/MODEL.json`.

    Other models may be read in the same pass (`runtime.one_pass`); their own stages find the chunks there and
    write their manifests.
    """
    weights = Layout().weights / checked_model(params, model)
    refuse_fine_grid(params, model)
    manifest = extract(extraction_of(params, model, model, weights), companions_of(params, model))
    say_fewer("extract.statistics_images", params.extract.statistics_images, manifest.statistics_images)
    file = Layout().manifests / f"{model}.json"
    manifest.refuse_other(file)
    manifest.save(file)
    return manifest.size


if __name__ == "__main__":
    main()
