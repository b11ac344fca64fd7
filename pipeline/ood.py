"""Stage `ood`: the universal SAE on images of another kind, beside held-out ones.

dvc repro ood
"""

from pathlib import Path

from pipeline import stage
from usae.activations.store import store_root
from usae.activations.store.manifests import load_manifests
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.common.tables import no_rows, write_table
from usae.evidence.ood.images import other_images
from usae.evidence.ood.shift import Shift
from usae.evidence.ood.tables import OOD
from usae.images.pixels.index import ImageIndex

DATA = Path("data")
TABLE = Path("reports/ood.parquet")


@stage
def main(params: Params) -> str:
    """Write `reports/ood.parquet`."""
    choice, most = params.ood.images, params.ood.most
    if choice is None:
        write_table(OOD, no_rows(OOD), TABLE)
        return "no images of another kind: see `ood.images` in params.yaml"
    root = None if params.images.path is None else Path(params.images.path)
    held_out = ImageIndex.load(DATA / "images/val.parquet", root)
    other = other_images(choice, held_out, most, params.seed, params.runtime.workers)
    manifests = load_manifests(DATA / "manifests", params.models)
    device, threshold = configure(params.runtime), params.measure.threshold
    shift = Shift.load(DATA, manifests, params.extract, params.runtime, threshold=threshold, device=device)
    home = store_root(params.runtime.store)
    table = shift.compare({model: one.open("val", home) for model, one in manifests.items()}, other, most)
    write_table(OOD, table, TABLE)
    cross = table[table["source"] != table["target"]].groupby("images", sort=False)["r2_channel"].mean()
    return f"{choice}: cross R2 " + ", ".join(f"{value:.2f} {images}" for images, value in cross.items())


if __name__ == "__main__":
    main()
