"""CPU-seconds of several layers of one network in one pass, and of several networks, beside a pass for each.

    python -m benchmarks.one_pass [--images FOLDER] [--models resnet10t vit_tiny_patch16_224] [--count 200]

Both ways run in one process, in turn, on the same images in the same batches; weights are random.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import torch

from benchmarks.extraction import extractions, options_of, timed
from usae.activations.extraction.extract import create_store
from usae.activations.extraction.extractor import Extractor
from usae.activations.extraction.joint import Pass

MODELS = ("resnet10t", "vit_tiny_patch16_224")
LAYERS = (-1, -2, -3)


def main() -> None:
    """Print a line a pair for each network, and for all of them."""
    options = options_of(__doc__, MODELS, count=200, pairs=2, threads=1, chunk=64)
    torch.set_num_threads(options.threads)
    with extractions(options) as found:
        firsts = [Extractor.load(each, torch.device("cpu")) for each in found]
        for first in firsts:
            compare(first.extraction.model, layers_of(first), options.pairs)
        compare("all", firsts, options.pairs)


def layers_of(first: Extractor) -> list[Extractor]:
    """LAYERS of one network, of which `first` is the first one."""
    read, backbone = first.extraction, first.forward.backbone
    return [
        Extractor(
            replace(read, model=f"{read.model}{layer}", layer=layer),
            replace(first.forward, backbone=backbone.at(layer, read.norm)),
            first.images,
        )
        for layer in LAYERS
    ]


def compare(name: str, extractors: Sequence[Extractor], pairs: int) -> None:
    """Print what a pass for each takes, and one pass for all, decoding alone, and decoding with resizing."""
    for each in extractors:
        each.forward(each.pixels("train", 2))  # what is loaded on the way is paid here
    first = extractors[0]
    images = len(first.images["train"])
    for pair in range(pairs):
        ways = {
            "apart": [passing(name, [each], pair, "apart") for each in extractors],
            "together": [passing(name, extractors, pair, "together")],
        }
        spent = {way: timed(partial(run, ways[way])) for way in (list(ways) if pair % 2 else reversed(ways))}
        (_, apart), (_, together) = spent["apart"], spent["together"]
        decoding, pixels = timed(partial(opened, first))[1], timed(partial(first.pixels, "train", images))[1]
        print(
            f"{name}  {len(extractors)} models, {images} images, CPU-s: apart {apart:.2f}, together "
            f"{together:.2f} ({together / apart:.2f}); decoding {decoding:.2f}, with resizing {pixels:.2f}",
            flush=True,
        )


def run(passes: Sequence[Pass]) -> int:
    """All of them, one after another."""
    return sum(chain.from_iterable(each.run() for each in passes))


def opened(extractor: Extractor) -> None:
    """Every training image, decoded."""
    images = extractor.images["train"]
    for image in range(len(images)):
        images.open(image).load()


def passing(model: str, extractors: Sequence[Extractor], pair: int, way: str) -> Pass:
    """The training images through the network, to stores of their own."""
    moved = []
    for each in extractors:
        store = f"{each.extraction.runtime.store}/{pair}-{way}-{model}"
        runtime = each.extraction.runtime.model_copy(update={"store": store})
        moved.append(replace(each, extraction=replace(each.extraction, runtime=runtime)))
    return Pass(moved, [each.left("train", create_store(each, "train")) for each in moved])


if __name__ == "__main__":
    main()
