"""Stage `untrained@MODEL`: the same network with random weights, extracted in the same way: a control."""

from pathlib import Path

from pipeline import checked_model, stage
from usae.extraction import extract, recipe_of
from usae.manifests import UNTRAINED
from usae.params import Params
from usae.zoo import obtain_untrained

HOME = Path("data/untrained")


@stage
def main(params: Params, model: str) -> str:
    """Pin random weights, fill the stores below `runtime.store` and write `data/untrained/MODEL.json`."""
    weights = HOME / "weights" / checked_model(params, model)
    obtain_untrained(params.zoo[model].backbone, weights, params.seed, model)
    manifest = extract(recipe_of(params, model, f"{UNTRAINED}{model}", weights))
    manifest.save(HOME / f"{model}.json")
    return manifest.size


if __name__ == "__main__":
    main()
