"""Stage `encode`: activations of both splits into sparse codes, by the universal and the independent SAEs."""

from pathlib import Path

from pipeline import stage
from usae.activations.store import store_root
from usae.activations.store.manifests import SPLITS, load_manifests
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.evidence.codes.encoding import encode_split
from usae.sae.universal import UniversalSAE


@stage
def main(params: Params) -> str:
    """Write `data/codes/SPLIT/MODEL` and `data/codes/SPLIT/independent/MODEL`."""
    device = configure(params.runtime)
    manifests = load_manifests(Path("data/manifests"), params.models)
    saes = {model: UniversalSAE.from_pretrained(Path("data/baselines") / model) for model in params.models}
    usae = UniversalSAE.from_pretrained("data/usae")
    limits = {"train": params.encode.train_images, "val": None}
    root, written = store_root(params.runtime.store), 0
    for split in SPLITS:
        folder = Path("data/codes") / split
        stores = {model: manifest.open(split, root) for model, manifest in manifests.items()}
        size = min(store.chunk_images for store in stores.values())
        for model, store in stores.items():
            for sae, name, home in ((usae, "usae", folder), (saes[model], "independent", folder / "independent")):
                images = encode_split(sae, model, store, home / model, name, limits[split], device, size)
            written += images
    return f"{written} images of {len(manifests)} models, {params.k} of {usae.concepts} concepts per token"


if __name__ == "__main__":
    main()
