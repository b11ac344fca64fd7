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
from usae.evidence.onboarding.newcomer import matrix
from usae.methods.joint.sae import FreeCrosscoder
from usae.sae.sparse import SparseCodes, transposed_product

BLOCK_IMAGES = 64
REPAIRINGS = 5  # of the images within a block, for the floor
ERROR, WRITTEN = "eps", "r"
TINY = 1e-12


class Scaling:
    """How well each latent's code explains targets (n, d_i), in the direction that is best for it."""

    def __init__(self, concepts: int) -> None:
        self.squares = torch.zeros(concepts, dtype=torch.float64)  # of the codes
        self.moved = torch.zeros(REPAIRINGS, concepts, dtype=torch.float64)  # of codes times those of other images
        self.products: dict[tuple[str, ...], Float[Tensor, "c d"]] = {}  # codes times a target, summed over tokens

    def count(self, codes: SparseCodes, orders: Sequence[Tensor]) -> None:
        """Add the codes of some tokens; orders: REPAIRINGS permutations of the tokens."""
        rows = matrix(codes, len(self.squares))
        self.squares += torch.from_numpy(np.asarray(rows.multiply(rows).sum(axis=0)).ravel())
        for total, order in zip(self.moved, orders, strict=True):
            total += torch.from_numpy(np.asarray(rows.multiply(rows[order.numpy()]).sum(axis=0)).ravel())

    def add(self, key: tuple[str, ...], codes: SparseCodes, target: Float[Tensor, "n d"]) -> None:
        """Add what the same tokens' target gives."""
        added = transposed_product(codes.indices, codes.values, target, len(self.squares)).double().cpu()
        self.products[key] = self.products[key] + added if key in self.products else added

    def energy(self, key: tuple[str, ...], given_back: Float[Tensor, "c d"] | float = 0.0) -> Float[Tensor, " c"]:
        """|f|^2 |v|^2 of the best directions v, (c,); given_back: what the target lacks for each latent's code."""
        directions = self.products[key] / self.squares.clamp_min(TINY)[:, None] + given_back
        return self.squares * directions.square().sum(1)

    def floor(
        self, key: tuple[str, ...], number: int, given_back: Float[Tensor, "c d"] | float
    ) -> Float[Tensor, " c"]:
        """The same where targets, with what they lack, are those of other images."""
        share = (self.moved[number] / self.squares.clamp_min(TINY))[:, None]
        return self.energy((*key, str(number)), share * given_back)


@torch.inference_mode()
def sharing_frame(
    sae: FreeCrosscoder, stores: Mapping[str, ActivationStore], threshold: float, seed: int
) -> pd.DataFrame:
    """Rows of table `method_sharing` of one crosscoder, on all images of `stores`."""
    norms = sae.norms().double().cpu()
    relative = norms / norms.sum(0).clamp_min(TINY)  # (m, c)
    scaling, fires = Scaling(sae.concepts), torch.zeros(len(sae.models), sae.concepts, dtype=torch.int64)
    for number, raw in enumerate(_blocks(sae, stores)):
        fires += _scale(
            sae,
            raw,
            scaling,
            threshold,
            [generator(seed, "re-paired images of latent scaling", number, n) for n in range(REPAIRINGS)],
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
    images, tokens = next(iter(raw.values())).shape[:2]
    places = torch.arange(images * tokens).unflatten(0, (images, tokens))
    orders = [places[torch.from_numpy(draw.permutation(images))].flatten() for draw in draws]
    scaling.count(codes, orders)
    fires = []
    for model, own in raw.items():
        alone = sae.encode({model: own.flatten(0, 1)})[model]
        fires.append(torch.bincount(alone.indices[alone.values > threshold].cpu(), minlength=sae.concepts))
        guess, truth = sae.decode(model, codes), sae.standardise(model, own).flatten(0, 1)
        for kind, target in ((ERROR, truth - guess), (WRITTEN, guess - sae.offset(model))):
            scaling.add((model, kind), codes, target)
            for number, order in enumerate(orders):
                scaling.add((model, kind, str(number)), codes, target[order])
    return torch.stack(fires)


def _ratios(sae: FreeCrosscoder, scaling: Scaling, kind: str, strongest: Tensor) -> Float[Tensor, "m c"]:
    """Root of the energy in each model over that in the strongest one; NaN where that is nothing."""
    found = []
    for model in sae.models:
        own = (sae.rows(model) / sae.scale()[:, None]).double().cpu() if kind == ERROR else 0.0
        floor = torch.stack([scaling.floor((model, kind), number, own) for number in range(REPAIRINGS)]).mean(0)
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
