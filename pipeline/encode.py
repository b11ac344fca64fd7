"""Stage `encode`: activations of both splits into sparse codes, by the universal and the independent SAEs."""

from pipeline import stage
from usae.activations.store import store_root
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.evidence.codes.encoding import encode_all


@stage
def main(params: Params) -> str:
    """Write `data/codes/SPLIT/MODEL` and `data/codes/SPLIT/independent/MODEL`."""
    device, root = configure(params.runtime), store_root(params.runtime.store)
    images = encode_all(params.models, params.encode.train_images, Layout(), root, device)
    concepts = f"{params.k} of {params.train.dictionary} concepts per token"
    return f"{images} images of {len(params.models)} models, {concepts}"


if __name__ == "__main__":
    main()
