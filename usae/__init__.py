"""Universal Sparse Autoencoders (arXiv 2502.03714): the concepts that several vision models share.

from usae import UniversalSAE
sae = UniversalSAE.from_pretrained("data/usae")
codes = sae.encode({"distilled": tokens})["distilled"]  # (images, tokens, width) -> k concepts per token
codes = usae.encode_images("distilled", ["dog.jpg"])  # the same, of pictures
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usae.backbones.networks.backbone import Backbone as Backbone
    from usae.common.errors import UserError as UserError
    from usae.common.params import Params as Params
    from usae.common.params import load_params as load_params
    from usae.sae.sparse import SparseCodes as SparseCodes
    from usae.sae.universal import UniversalSAE as UniversalSAE
    from usae.showing.card import model_card as model_card
    from usae.showing.looking.reading import PictureReader as PictureReader
    from usae.showing.looking.reading import encode_images as encode_images
    from usae.showing.looking.reading import heatmap as heatmap
    from usae.showing.results.run import Run as Run
    from usae.training.fitting import fit as fit

# Loaded on first use: a stage that needs no torch should not wait for it.
_HOMES = {
    "Backbone": "usae.backbones.networks.backbone",
    "Params": "usae.common.params",
    "PictureReader": "usae.showing.looking.reading",
    "Run": "usae.showing.results.run",
    "SparseCodes": "usae.sae.sparse",
    "UniversalSAE": "usae.sae.universal",
    "UserError": "usae.common.errors",
    "encode_images": "usae.showing.looking.reading",
    "fit": "usae.training.fitting",
    "heatmap": "usae.showing.looking.reading",
    "load_params": "usae.common.params",
    "model_card": "usae.showing.card",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'usae' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
