"""The same universal SAE on images of another kind: what of its numbers holds there (stage `ood`, table `ood`)?

Images go through networks and encoders batch by batch and leave only sums. Beside them stand as many held-out
images, measured in the same way; everything else, the units of the activations too, stays as it was trained.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from usae.activations.extraction.forward import Forward
from usae.activations.extraction.pixels import Decoder
from usae.activations.store import ActivationStore, image_spans
from usae.activations.store.manifests import Manifest
from usae.backbones.networks.backbone import Backbone
from usae.common.errors import UserError
from usae.common.params import ExtractParams, RuntimeParams
from usae.common.runtime.progress import counter
from usae.common.types import Array
from usae.evidence.codes.encoding import code_chunk
from usae.evidence.metrics.firing.counts import FiringCounts, energy, lift
from usae.evidence.metrics.reconstruction.passes import decoded, standard_units
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.evidence.ood.images import KEY
from usae.images.pixels.index import ImageIndex
from usae.sae.universal import UniversalSAE

log = logging.getLogger("usae")

HELD_OUT, OTHER = "held-out", "other"
Batch = tuple[range, Mapping[str, Array]]  # images, and the activations [b, t, d] of every model


@dataclass(frozen=True)
class Shift:
    """A universal SAE, its networks, and how their activations were made."""

    sae: UniversalSAE
    networks: Mapping[str, Forward]
    params: ExtractParams
    runtime: RuntimeParams
    threshold: float
    device: torch.device

    @classmethod
    def load(
        cls,
        data: Path,
        manifests: Mapping[str, Manifest],
        params: ExtractParams,
        runtime: RuntimeParams,
        *,
        threshold: float,
        device: torch.device,
    ) -> "Shift":
        """The SAE in `data/usae` and the networks in `data/weights` of all `manifests`."""
        sae = UniversalSAE.from_pretrained(data / "usae").to(device)
        networks = {
            model: Forward(
                Backbone.load(data / "weights" / model, manifest.layer, manifest.grid, manifest.norm).to(device),
                params,
                device,
            )
            for model, manifest in manifests.items()
        }
        return cls(sae, networks, params, runtime, threshold, device)

    def compare(self, stores: Mapping[str, ActivationStore], other: ImageIndex, most: int) -> pd.DataFrame:
        """Table `ood`, from held-out images, whose activations are in `stores`, and as many other ones."""
        count = min(most, next(iter(stores.values())).images, len(other))
        parts = [self._measured(HELD_OUT, count, self.held_out(stores, count))]
        parts.append(self._measured(OTHER, count, self.through(other, count)))
        return pd.concat(parts, ignore_index=True)

    def held_out(self, stores: Mapping[str, ActivationStore], images: int) -> Iterator[Batch]:
        """The first `images` of the stores."""
        for span in self._spans(images):
            yield span, {model: np.asarray(store.take(span)) for model, store in stores.items()}

    def through(self, index: ImageIndex, images: int) -> Iterator[Batch]:
        """The first `images` of an index through all networks, in the type of the stores.

        Raises:
            UserError: an image can no longer be read, or gives activations that the type cannot hold.
        """
        spans = self._spans(images)
        with ThreadPoolExecutor(self.runtime.workers) as pool:
            readers = [self._decoder(index, network).batches(spans, pool, 1) for network in self.networks.values()]
            for span, pixels in zip(spans, zip(*readers, strict=True), strict=True):
                parts = zip(self.networks.items(), pixels, strict=True)
                yield span, {model: self._tokens(model, network, part) for (model, network), part in parts}

    def _measured(self, images: str, count: int, batches: Iterator[Batch]) -> pd.DataFrame:
        """Rows of table `ood` of one set of images."""
        models = tuple(self.networks)
        firing = FiringCounts(len(models), self.sae.concepts, self.threshold)
        marks = Reconstruction("usae", images)
        with counter(count, description=f"ood, {images}", unit="image") as bar:
            for span, activations in batches:
                codes = {
                    model: code_chunk(self.sae, model, rows, span, self.device)
                    for model, rows in activations.items()
                }
                firing.update(list(codes.values()))
                for target, rows in activations.items():
                    truth = standard_units(self.sae, target, rows.astype(np.float32))
                    marks.update(target, truth, decoded(self.sae, target, codes))
                bar.update(len(span))
        table = pd.DataFrame(_cofiring(firing, models)).assign(images=images, count=count)
        explained = pd.DataFrame(marks.rows(models)).drop(columns=["sae", "split"])
        return table.merge(explained, on=["source", "target"], validate="one_to_one")

    def _tokens(self, model: str, network: Forward, pixels: torch.Tensor) -> Array:
        features = network(pixels)
        largest = float(features.largest.max())
        if not largest <= float(np.finfo(self.params.dtype).max):
            raise UserError(
                f"'{model}' gives activations up to {largest:g} for the images of `{KEY}`, which "
                f"{self.params.dtype} cannot hold. Set `extract.dtype: float32`, or look at these images."
            )
        return np.asarray(features.tokens.cpu().numpy())

    def _decoder(self, index: ImageIndex, network: Forward) -> Decoder:
        identity = network.backbone.identity
        return Decoder(index, identity.size, self.params.fit, identity.interpolation)

    def _spans(self, images: int) -> list[range]:
        return image_spans(range(images), self.runtime.batch_images)


def _cofiring(firing: FiringCounts, models: Sequence[str]) -> Iterator[dict[str, object]]:
    """What fires in every source, and with it in every target."""
    fires, energies = firing.fires, energy(firing.mean_codes)
    for (i, source), (j, target) in product(enumerate(models), repeat=2):
        both, alone = firing.together([i, j]), i == j
        known = lift(both, fires[[i, j]], firing.tokens)
        known = known[~np.isnan(known)]
        yield {
            "source": source,
            "target": target,
            "cofire_proportion": np.nan if alone else both.sum() / max(fires[i].sum(), 1),
            "lift": np.nan if alone or not len(known) else float(np.median(known)),
            "alive": float((fires[i] > 0).mean()),
            "firing": float(fires[i].sum() / firing.tokens),
            "l0": float(firing.sparsity[i]),
            "energy": float(energies[i].sum()),
        }
