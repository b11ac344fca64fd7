"""Which latents of a crosscoder are shared: by the norms of its decoders, and whether that can be believed.

A decoder of norm 0 need not mean that the model lacks the concept (Minder et al. 2025). The model's activations
may hold it all the same, in what the crosscoder leaves unexplained (complete shrinkage), or another latent may
write it (decoupling). Latent scaling asks: how well does the latent's code explain the model's error with the
latent's own share given back (`eps`), and how well what is reconstructed (`r`)? The published ratio takes one
model's decoder direction for both, which models of different widths do not have; here each model's direction is
fitted anew. Any direction explains something of noise, so what images re-paired with the codes explain is taken
off.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from usae.activations.store import ActivationStore, image_spans
from usae.common.seeds import generator
from usae.methods.joint.sae import FreeCrosscoder
from usae.sae.sparse import SparseCodes, transposed_product

BLOCK_IMAGES = 64
REPAIRINGS = 5  # of the images within a block, for the floor
ERROR, WRITTEN = "eps", "r"
STREAM = "re-paired images of latent scaling"


class Scaling:
    """How well each latent's code explains targets (n, d_i), in the direction that is best for it."""

    def __init__(self, concepts: int) -> None:
        self.squares = torch.zeros(concepts, dtype=torch.float64)  # of the codes
        self.products: dict[tuple[str, ...], Float[Tensor, "c d"]] = {}  # codes times a target, summed over tokens

    def count(self, codes: SparseCodes) -> None:
        """Add the codes of some tokens."""
        self.squares.index_add_(0, codes.indices.flatten().cpu(), codes.values.flatten().double().cpu().square())

    def add(self, key: tuple[str, ...], codes: SparseCodes, target: Float[Tensor, "n d"]) -> None:
        """Add what the same tokens' target gives."""
        added = transposed_product(codes.indices, codes.values, target, len(self.squares)).double().cpu()
        self.products[key] = self.products[key] + added if key in self.products else added

    def energy(self, key: tuple[str, ...], given_back: Float[Tensor, "c d"] | float = 0.0) -> Float[Tensor, " c"]:
        """|f|^2 |v|^2 of the best directions v, (c,); given_back: what the target lacks for each latent's code."""
        directions = self.products[key] / self.squares.clamp_min(1e-12)[:, None] + given_back
        return self.squares * directions.square().sum(1)


@torch.inference_mode()
def sharing_frame(
    sae: FreeCrosscoder, stores: Mapping[str, ActivationStore], threshold: float, seed: int
) -> pd.DataFrame:
    """Rows of table `method_sharing` of one crosscoder, on all images of `stores`."""
    norms = sae.norms().double().cpu()
    relative = norms / norms.sum(0).clamp_min(1e-12)  # (m, c)
    scaling, fires = Scaling(sae.concepts), torch.zeros(len(sae.models), sae.concepts, dtype=torch.int64)
    for number, raw in enumerate(_blocks(sae, stores)):
        fires += _scale(
            sae, raw, scaling, threshold, [generator(seed, STREAM, number, n) for n in range(REPAIRINGS)]
        )
    columns = {"relative_norm": relative, "fires": fires}
    for kind in (ERROR, WRITTEN):
        columns[f"nu_{kind}"] = _ratios(sae, scaling, kind, relative.argmax(0))
    frames = [
        pd.DataFrame({name: values[place].numpy() for name, values in columns.items()}).assign(
            concept_id=range(sae.concepts), model=model
        )
        for place, model in enumerate(sae.models)
    ]
    return pd.concat(frames, ignore_index=True)


def _scale(
    sae: FreeCrosscoder,
    raw: Mapping[str, Float[Tensor, "images tokens _"]],
    scaling: Scaling,
    threshold: float,
    draws: Sequence[np.random.Generator],
) -> Float[Tensor, "m c"]:
    """Add the code of all models on some images; and their fires where each is read alone."""
    codes = next(iter(sae.encode({model: own.flatten(0, 1) for model, own in raw.items()}).values()))
    scaling.count(codes)
    orders = [torch.from_numpy(draw.permutation(len(next(iter(raw.values()))))) for draw in draws]
    fires = []
    for model, own in raw.items():
        alone = sae.encode({model: own.flatten(0, 1)})[model]
        fires.append(torch.bincount(alone.indices[alone.values > threshold].cpu(), minlength=sae.concepts))
        guess = sae.decode(model, codes).unflatten(0, own.shape[:2])
        for kind, target in ((ERROR, sae.standardise(model, own) - guess), (WRITTEN, guess - sae.offset(model))):
            scaling.add((model, kind), codes, target.flatten(0, 1))
            for number, order in enumerate(orders):
                scaling.add((model, kind, str(number)), codes, target[order].flatten(0, 1))
    return torch.stack(fires)


def _ratios(sae: FreeCrosscoder, scaling: Scaling, kind: str, strongest: Tensor) -> Float[Tensor, "m c"]:
    """Root of the energy in each model over that in the strongest one; NaN where that is nothing."""
    found = []
    for model in sae.models:
        own = (sae.rows(model) / sae.scale()[:, None]).double().cpu() if kind == ERROR else 0.0
        floor = torch.stack([scaling.energy((model, kind, str(number))) for number in range(REPAIRINGS)]).mean(0)
        found.append((scaling.energy((model, kind), own) - floor).clamp_min(0) / sae.part(model).gain.cpu() ** 2)
    energies = torch.stack(found)  # (m, c)
    top = energies.gather(0, strongest[None])
    return torch.where(top > 0, energies / top, torch.nan).sqrt()


def _blocks(sae: FreeCrosscoder, stores: Mapping[str, ActivationStore]) -> Iterator[dict[str, Tensor]]:
    """Raw activations of all models, some images at a time."""
    images = min(store.images for store in stores.values())
    for span in image_spans(range(images), BLOCK_IMAGES):
        yield {
            model: torch.from_numpy(store.take(np.asarray(span)).astype(np.float32)).to(sae.device)
            for model, store in stores.items()
        }
