"""Supervised objective: which attributes does the scene show, and which does each of its cells?"""

from torch import Tensor, nn
from torch.nn import functional

from usae.backbones.weights.pretraining.architectures import final_tokens
from usae.backbones.weights.pretraining.scenes import Scenes, exposed
from usae.images.sources.shapes.scenes import ATTRIBUTES

CELL_WEIGHT = 4.0


class Supervised(nn.Module):
    """Binary cross-entropy on mean-pooled tokens (presence) and on single tokens (share of the cell)."""

    def __init__(self, backbone: nn.Module, width: int, scenes: Scenes) -> None:
        super().__init__()
        self.backbone = backbone
        self.scenes = scenes
        self.image_head = nn.Linear(width, len(ATTRIBUTES))
        self.cell_head = nn.Linear(width, len(ATTRIBUTES))

    def forward(self, batch: Tensor) -> Tensor:
        """The loss of the scenes numbered `batch` [b]."""
        tokens = final_tokens(self.backbone, exposed(self.scenes.pixels(batch)))  # (images, tokens, width)
        shares = self.scenes.coverage[batch].float() / 255.0  # (images, tokens, attributes)
        present = (shares > 0).any(1).float()  # (images, attributes)
        cross_entropy = functional.binary_cross_entropy_with_logits
        image_loss: Tensor = cross_entropy(self.image_head(tokens.mean(1)), present)
        return image_loss + CELL_WEIGHT * cross_entropy(self.cell_head(tokens), shares)

    def after_step(self, share: float) -> None:
        """Nothing follows a step, `share` of the way through training."""
