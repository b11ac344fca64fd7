"""An atlas asked by label: which of its concepts a label finds in another model, and what a push along it does.

Both after Atlas-Alignment (arXiv 2510.27413). A label's concept in the atlas is the one whose codes tell images
with the label best from the others, in training images of the atlas model; a model's native one is that of its own
SAE, in its own. Retrieval is judged on held-out images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from usae.common.numerics.matching import unit
from usae.common.seeds import generator
from usae.common.types import Array
from usae.evidence.metrics.labels.single import roc_aucs
from usae.evidence.onboarding.newcomer import matrix
from usae.methods.fitting.affine import AffineSAE
from usae.methods.fitting.label_tokens import LabelSplits, LabelTokens, flat, summed, token_blocks
from usae.methods.fitting.material import Material
from usae.methods.fitting.own import unit_rows

DRAWS, QUANTILE = 100, 0.95  # random directions of every label


@dataclass(frozen=True)
class Steering:
    """What a push does to a label's score less what it does to the mean of the others, (L,) each.

    A push adds a vector of the norm of a model's tokens, root mean square, to all tokens of an image. translated:
    along the atlas's concept. native: along the model's own. random (DRAWS, L): along random directions.
    """

    translated: Array
    native: Array
    random: Array


@torch.inference_mode()
def label_numbers(material: Material, hub: str, concepts: AffineSAE, images: LabelSplits) -> dict[str, float]:
    """Means over labels and over the models that are not the atlas: retrieval_label_... and steering_...

    images: of training and held out.
    """
    others = [model for model in material.models if model != hub]
    best = {model: roc_aucs(codes, images[0].present).argmax(axis=0) for model, codes in images[0].codes.items()}
    alive = np.flatnonzero(images[0].codes[hub].max(axis=0))
    retrieved = [retrieval(material, m, concepts, (best[hub], best[m]), images[1], alive) for m in others]
    pushes = [steering(material, m, concepts, (best[hub], best[m]), images[0]) for m in others]
    means = {name: float(np.mean([each[name] for each in retrieved])) for name in retrieved[0]}
    return means | shares(pushes)


def retrieval(
    material: Material,
    model: str,
    concepts: AffineSAE,
    best: tuple[Array, Array],
    held_out: LabelTokens,
    alive: Array,
) -> dict[str, Array]:
    """Of each label, how well what it finds in `model` tells held-out images with it from others (AUC).

    best (L,) each: the label's concept in the atlas, and the model's native one. alive: concepts of the atlas
    that fire, over which the AUC of a random one is the mean.
    """
    labels = np.arange(held_out.present.shape[1])
    directions = concepts.dictionary(model).double().cpu().numpy()
    codes = roc_aucs(read(material, model, concepts, held_out.images), held_out.present)  # (c, L)
    projections = roc_aucs(held_out.means[model] @ directions.T, held_out.present)  # (c, L)
    own = unit_rows(material.alone[model], model)
    places = ranks(directions[best[0]] @ own.T, best[1])
    return {
        "retrieval_label_code": codes[best[0], labels],
        "retrieval_label_code_random": codes[alive].mean(axis=0),
        "retrieval_label_direction": projections[best[0], labels],
        "retrieval_label_direction_random": projections[alive].mean(axis=0),
        "retrieval_label_native": roc_aucs(held_out.codes[model], held_out.present)[best[1], labels],
        "retrieval_label_mrr": 1 / places,
        "retrieval_label_mrr_chance": np.full(len(labels), (1 / np.arange(1, len(own) + 1)).mean()),
        "retrieval_label_top_1": places == 1,
        "retrieval_label_top_1_chance": np.full(len(labels), 1 / len(own)),
    }


def steering(
    material: Material, model: str, concepts: AffineSAE, best: tuple[Array, Array], train: LabelTokens
) -> Steering:
    """Pushes of `model` along the direction of each label's concept; best: as in `retrieval`.

    The readout is linear in an image's mean token, so a push changes its scores by the same in every image, and by
    so many times more where it is so many times longer.
    """
    readout = train.readout(model).weights * np.sqrt(train.powers[model])  # (d, L)
    translated = concepts.dictionary(model).double().cpu().numpy()[best[0]]
    native = unit_rows(material.alone[model], model)[best[1]]
    rng = generator(material.seed, "random directions to steer along", material.models.index(model))
    drawn = unit(rng.normal(size=(DRAWS * len(native), native.shape[1]))).reshape(DRAWS, *native.shape)
    return Steering(*(specific(readout, directions) for directions in (translated, native, drawn)))


def specific(readout: Array, directions: Array) -> Array:
    """(..., L) change of each label's score along its direction (..., L, d), less the mean change of the others.

    readout: (d, L), two labels at least.
    """
    others = (readout.sum(axis=1, keepdims=True) - readout) / (readout.shape[1] - 1)
    return np.asarray((directions * (readout - others).T).sum(axis=-1))


def shares(pushes: Sequence[Steering]) -> dict[str, float]:
    """The mean native change, and what atlas and random directions reach of it; NaN where it is not above 0."""
    native = float(np.mean([push.native for push in pushes]))
    random = float(np.quantile(np.mean([push.random.mean(axis=1) for push in pushes], axis=0), QUANTILE))
    translated = float(np.mean([push.translated for push in pushes]))
    scale = native if native > 0 else float("nan")
    return {
        "steering_native": native,
        "steering_share": translated / scale,
        "steering_share_random": random / scale,
    }


def read(material: Material, model: str, concepts: AffineSAE, images: Array) -> Array:
    """(n, c) codes of held-out images of a model, summed over tokens."""
    store, found = material.held_out[model], []
    for rows in token_blocks(material, model, store, images):
        pre = torch.from_numpy(concepts.encoders[model](flat(rows)).astype(np.float32)).to(concepts.device)
        found.append(summed(matrix(concepts.levels.top_k(pre), concepts.concepts), store.tokens))
    return np.concatenate(found)


def ranks(cosines: Array, partner: Array) -> Array:
    """(n,) place of the partner (n,) among the columns of (n, c), 1 the nearest."""
    return np.asarray(1 + (cosines > cosines[np.arange(len(cosines)), partner][:, None]).sum(axis=1))
