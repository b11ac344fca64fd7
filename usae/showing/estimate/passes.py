"""What one image takes in an extraction that runs: of a small set, little beside what the stage takes anyway."""

import shutil
from pathlib import Path

import numpy as np

from usae.activations.extraction.extract import companions_of, create_store, extraction_of
from usae.activations.extraction.extractor import Extractor
from usae.activations.extraction.joint import Pass
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure
from usae.showing.estimate.clocks import Cost, clocks

IMAGE = "image"  # `image@MODEL`, beside the names of stages
SECONDS = 2.0  # of batches that are timed, at least
TIMED = Path("data/timed")  # stores for this alone


def image_cost(params: Params, model: str) -> Cost | None:
    """From its file to the store, in the working folder, where `extract` ran; None where several models share a
    pass, of which one takes it all.
    """
    if companions_of(params, model):
        return None
    own = params.model_copy(update={"runtime": params.runtime.model_copy(update={"store": str(TIMED.absolute())})})
    extractor = Extractor.load(extraction_of(own, model, model, Layout().weights / model), configure(own.runtime))
    extractor.forward(extractor.pixels("train", min(own.runtime.batch_images, len(extractor.images["train"]))))
    images, spent = 0, np.zeros(2)
    while spent[0] < SECONDS:
        shutil.rmtree(TIMED, ignore_errors=True)
        TIMED.mkdir()
        passing = Pass([extractor], [extractor.left("train", create_store(extractor, "train"))])
        before = clocks()
        images += sum(passing.run())
        spent += clocks() - before
    shutil.rmtree(TIMED)
    return Cost(*(spent / images))
