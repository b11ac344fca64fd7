"""The finished universal SAE on images of another kind, compared with as many held-out images (table `ood`).

Both sets are measured in the same way, batch by batch; only sums stay in memory. The networks, the SAE and the
means and standard deviations that standardise the activations are those of the training images.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch

from usae.activations.extraction.forward import Forward
from usae.activations.extraction.pixels import Decoder
from usae.activations.store import ActivationStore, image_spans
from usae.activations.store.manifests import Manifest
from usae.backbones.networks.backbone import Backbone
from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.common.params import ExtractParams, RuntimeParams
from usae.common.runtime.progress import counter
from usae.common.types import Array
from usae.evidence.codes.encoding import code_chunk
from usae.evidence.estimators import contribution_norms, load_estimator
from usae.evidence.metrics.firing.counts import FiringCounts, energy, lift
from usae.evidence.metrics.reconstruction.passes import decoded, standard_units
from usae.evidence.metrics.reconstruction.r2 import Reconstruction
from usae.evidence.ood.images import KEY
from usae.images.pixels.index import ImageIndex
from usae.sae.estimator import Estimator

log = logging.getLogger("usae")

HELD_OUT, OTHER = "held-out", "other"
ImageBatch = tuple[range, Mapping[str, Array]]  # images, and the activations [b, t, d] of every model


@dataclass(frozen=True)
class OodEvaluation:
    """A universal SAE, the networks of its models, and how their activations are extracted.

    threshold: the code above which a concept fires.
    """

    sae: Estimator
    networks: Mapping[str, Forward]
    params: ExtractParams
    runtime: RuntimeParams
    threshold: float
    device: torch.device

    @classmethod
    def load(
        cls,
        layout: Layout,
        manifests: Mapping[str, Manifest],
        params: ExtractParams,
        runtime: RuntimeParams,
        *,
        threshold: float,
        device: torch.device,
    ) -> "OodEvaluation":
        """The universal SAE of a run, and the networks of the models of `manifests`."""
        sae = load_estimator(layout.usae).to(device)
        networks = {
            model: Forward(
                Backbone.load(layout.weights / model, manifest.layer, manifest.grid, manifest.norm).to(device),
                params,
                device,
            )
            for model, manifest in manifests.items()
        }
        return cls(sae, networks, params, runtime, threshold, device)

    def compare(self, stores: Mapping[str, ActivationStore], other: ImageIndex, most: int) -> pd.DataFrame:
        """Table `ood`, from held-out images, whose activations are in `stores`, and as many other images.

        most: images of each of the two sets, where there are as many.
        """
        count = min(most, next(iter(stores.values())).images, len(other))
        frames = [
            self._measured(HELD_OUT, count, self.stored(stores, count)),
            self._measured(OTHER, count, self.extracted(other, count)),
        ]
        return pd.concat(frames, ignore_index=True)

    def stored(self, stores: Mapping[str, ActivationStore], images: int) -> Iterator[ImageBatch]:
        """Activations of the first `images` of the stores."""
        for span in self._spans(images):
            yield span, {model: np.asarray(store.take(span)) for model, store in stores.items()}

    def extracted(self, index: ImageIndex, images: int) -> Iterator[ImageBatch]:
        """Activations of the first `images` of an index, from all networks, in the number type of the stores.

        Raises:
            UserError: an image can no longer be read, or gives activations that the type cannot hold.
        """
        spans = self._spans(images)
        squares = {network.square for network in self.networks.values()}
        with ThreadPoolExecutor(self.runtime.workers) as pool:
            decoded = Decoder(index).batches(((span, squares) for span in spans), pool, ahead=1)
            for span, pixels in zip(spans, decoded, strict=True):
                given = ((model, network, pixels[network.square]) for model, network in self.networks.items())
                yield span, {model: self._tokens(model, network, own) for model, network, own in given}

    def _measured(self, images: str, count: int, batches: Iterator[ImageBatch]) -> pd.DataFrame:
        """Rows of table `ood` of one set of images."""
        models = tuple(self.networks)
        firing = FiringCounts(len(models), self.sae.concepts, self.threshold)
        reconstruction = Reconstruction("usae", images)
        with counter(count, description=f"ood, {images}", unit="image") as bar:
            for span, activations in batches:
                codes = {
                    model: code_chunk(self.sae, model, rows, np.asarray(span), self.device)
                    for model, rows in activations.items()
                }
                firing.update(list(codes.values()))
                for target, rows in activations.items():
                    truth = standard_units(self.sae, target, rows.astype(np.float32))
                    reconstruction.update(target, truth, decoded(self.sae, target, codes))
                bar.update(len(span))
        norms = contribution_norms(self.sae, models)
        table = pd.DataFrame(_cofiring(firing, norms, models)).assign(images=images, count=count)
        explained = pd.DataFrame(reconstruction.rows(models)).drop(columns=["sae", "split"])
        return table.merge(explained, on=["source", "target"], validate="one_to_one")

    def _tokens(self, model: str, network: Forward, pixels: torch.Tensor) -> Array:
        """Activations [b, t, d] of `pixels`; UserError where `extract.dtype` cannot hold them."""
        features = network(pixels)
        largest = float(features.largest.max())
        if not largest <= float(np.finfo(self.params.dtype).max):
            raise UserError(
                f"'{model}' gives activations up to {largest:g} for the images of `{KEY}`, which "
                f"{self.params.dtype} cannot hold. Set `extract.dtype: float32`, or look at these images."
            )
        return np.asarray(features.tokens.cpu().numpy())

    def _spans(self, images: int) -> list[range]:
        return image_spans(range(images), self.runtime.batch_images)


def _cofiring(firing: FiringCounts, norms: Array, models: Sequence[str]) -> Iterator[dict[str, object]]:
    """Columns of table `ood` that count fires: of each source, and on the same tokens of each target."""
    fires, energies = firing.fires, energy(firing.mean_codes, norms)
    for (i, source), (j, target) in product(enumerate(models), repeat=2):
        both, same = firing.together([i, j]), i == j
        lifts = lift(both, fires[[i, j]], firing.tokens)
        defined = lifts[~np.isnan(lifts)]
        yield {
            "source": source,
            "target": target,
            "cofire_proportion": np.nan if same else both.sum() / max(fires[i].sum(), 1),
            "lift": np.nan if same or not len(defined) else float(np.median(defined)),
            "alive": float((fires[i] > 0).mean()),
            "firing": float(fires[i].sum() / firing.tokens),
            "l0": float(firing.sparsity[i]),
            "energy": float(energies[i].sum()),
        }
