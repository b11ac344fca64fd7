"""Stage `ood` from its parameters: opens what earlier stages wrote, and compares both sets of images."""

from pathlib import Path

import pandas as pd

from usae.activations.store import store_root
from usae.activations.store.manifests import load_manifests
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.amounts import say_fewer
from usae.common.runtime.device import configure
from usae.common.tables import no_rows
from usae.evidence.ood.evaluation import OodEvaluation
from usae.evidence.ood.images import other_images
from usae.evidence.ood.tables import OOD
from usae.images.pixels.index import ImageIndex


def run(params: Params) -> pd.DataFrame:
    """Table `ood`; without rows where `ood.images` names no images, and in a quick run.

    Raises:
        UserError: see `other_images` and `OodEvaluation.extracted`; or what earlier stages write is missing.
    """
    choice, most, layout = params.ood.images, params.ood.most, Layout()
    if choice is None or params.quick:
        return no_rows(OOD)
    root = None if params.images.path is None else Path(params.images.path)
    held_out = ImageIndex.load(layout.images / "val.parquet", root)
    other = other_images(choice, held_out, most, params.seed, params.runtime.workers)
    for images, kind in ((held_out, "held-out"), (other, "other")):
        say_fewer("ood.most", most, len(images), kind)
    manifests = load_manifests(layout.manifests, params.models)
    device, threshold = configure(params.runtime), params.measure.threshold
    evaluation = OodEvaluation.load(
        layout, manifests, params.extract, params.runtime, threshold=threshold, device=device
    )
    home = store_root(params.runtime.store)
    stores = {model: manifest.open("val", home) for model, manifest in manifests.items()}
    return evaluation.compare(stores, other, most)
