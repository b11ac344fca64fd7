"""Image-text objective: SigLIP's sigmoid loss (Zhai et al. 2023, arXiv 2303.15343), small caption encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from usae.backbones.weights.pretraining.architectures import final_tokens
from usae.backbones.weights.pretraining.scenes import Scenes, exposed, flipped

WIDTH = 96
START_SCALE, START_BIAS = 10.0, -5.0


class CaptionEncoder(nn.Module):
    """One transformer layer over word and position embeddings, then the mean; padding is word 0."""

    def __init__(self, words: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, WIDTH, padding_idx=0)
        self.positions = nn.Parameter(0.02 * torch.randn(length, WIDTH))
        self.layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, words: Tensor) -> Tensor:
        """Word numbers [b, length] to caption embeddings [b, WIDTH]."""
        hidden = self.layer(self.words(words) + self.positions, src_key_padding_mask=words == 0)
        weight = (words != 0).unsqueeze(-1).float()
        pooled: Tensor = (self.norm(hidden) * weight).sum(1) / weight.sum(1)  # (captions, WIDTH)
        return pooled


class Language(nn.Module):
    """Each image against each caption of the batch: do the two belong together?"""

    def __init__(self, backbone: nn.Module, width: int, scenes: Scenes) -> None:
        super().__init__()
        self.backbone = backbone
        self.scenes = scenes
        self.words, vocabulary = number_words(scenes.captions)
        self.caption_encoder = CaptionEncoder(vocabulary, self.words.shape[1])
        self.image_head = nn.Linear(width, WIDTH)
        self.log_scale = nn.Parameter(torch.tensor(START_SCALE).log())
        self.bias = nn.Parameter(torch.tensor(START_BIAS))

    def forward(self, batch: Tensor) -> Tensor:
        """The loss of the scenes numbered `batch` [b], summed over pairs and divided by b."""
        tokens = final_tokens(
            self.backbone, flipped(exposed(self.scenes.pixels(batch)))
        )  # (images, tokens, width)
        images = functional.normalize(self.image_head(tokens.mean(1)), dim=-1)  # (images, WIDTH)
        captions = functional.normalize(self.caption_encoder(self.words[batch]), dim=-1)  # (images, WIDTH)
        logits = images @ captions.T * self.log_scale.exp() + self.bias  # (images, captions)
        signs = 2.0 * torch.eye(len(batch)) - 1.0
        return -functional.logsigmoid(signs * logits).sum() / len(batch)

    def after_step(self, share: float) -> None:
        """Nothing follows a step, `share` of the way through training."""


def number_words(captions: tuple[str, ...]) -> tuple[Tensor, int]:
    """Captions as word numbers [n, longest], padded with 0, and the size of the vocabulary with padding."""
    split = [caption.replace(",", "").split() for caption in captions]
    vocabulary = {
        word: number for number, word in enumerate(sorted({word for words in split for word in words}), 1)
    }
    numbered = [torch.tensor([vocabulary[word] for word in words]) for words in split]
    return nn.utils.rnn.pad_sequence(numbered, batch_first=True), len(vocabulary) + 1
