"""Three small backbones, learnt on the generated world with the three objectives of the paper's three models.

`supervised` as its ViT, `distilled` as its DINOv2, `language` as its SigLIP (arXiv 2502.03714, section 4).
The `weights` stage takes the shipped checkpoints or trains anew.
"""

from usae.backbones.weights.pretraining.architectures import ARCHITECTURES, ObjectiveName, untrained
from usae.backbones.weights.pretraining.recipes import RECIPES, TrainingRecipe
from usae.backbones.weights.pretraining.shipped import save_half, shipped
from usae.backbones.weights.pretraining.training import pretrain

__all__ = [
    "ARCHITECTURES",
    "RECIPES",
    "ObjectiveName",
    "TrainingRecipe",
    "pretrain",
    "save_half",
    "shipped",
    "untrained",
]
