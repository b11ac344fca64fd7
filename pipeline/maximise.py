"""Stage `maximise`: for the most universal concepts, the image that each model likes best (MACO).

dvc repro maximise
"""

from pathlib import Path

import numpy as np

from pipeline import stage
from usae.backbones import Backbone
from usae.gallery import shared_concepts
from usae.images import ImageIndex
from usae.manifests import load_manifests
from usae.maximisation import maximise_concepts
from usae.maximised import write_maximised
from usae.params import Params
from usae.runtime import configure
from usae.sae import UniversalSAE
from usae.store import store_root
from usae.tables import read_table
from usae.yardstick import real_scores, run_spectrum


@stage
def main(params: Params) -> str:
    """Write `data/maximised/CONCEPT/MODEL.png`, the scores and the curves."""
    device, settings = configure(params.runtime), params.maximise
    table = read_table(Path("reports/concepts.parquet"))
    concepts = [choice.concept for choice in shared_concepts(table, settings.concepts)]
    index = ImageIndex.load(Path("data/images/val.parquet"), Path(params.images.path or "."))
    usae = UniversalSAE.from_pretrained("data/usae").to(device)
    manifests = load_manifests(Path("data/manifests"), params.models)
    magnitude = run_spectrum(index, settings.size, next(iter(manifests.values())).fit)
    results, real = {}, {}
    for model, manifest in manifests.items():
        folder = Path("data/weights") / model
        backbone = Backbone.load(folder, manifest.layer, manifest.grid, manifest.norm).to(device)
        batch = params.runtime.batch_images
        results[model] = maximise_concepts(
            usae, backbone, model, concepts, magnitude, settings, params.seed, batch
        )
        real[model] = real_scores(usae, model, manifest.open("val", store_root(params.runtime.store)), concepts)
    scores = write_maximised(Path("data/maximised"), concepts, results, real)
    median = np.median([score.percentile for score in scores]) if scores else float("nan")
    return f"{len(scores)} pictures, at the median above {median:.0f} % of real images by the model's own score"


if __name__ == "__main__":
    main()
