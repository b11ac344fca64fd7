"""What holds on images of another kind (stage `report`, from stage `ood`)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from usae.showing.figures.theme import MUTED, OKABE_ITO, RC, Picture, canvas, sentence

NEGATIVES = "negatives"  # of `ood.images`
SIDES = {"held-out": ("o", OKABE_ITO[2]), "other": ("D", OKABE_ITO[1])}


@mpl.rc_context(RC)
def ood_picture(ood: pd.DataFrame, models: Sequence[str], images: str | None) -> Picture:
    """R2 of every pair of models, on held-out images and on other ones; `images` is `ood.images` of the run."""
    if ood.empty:
        text = "Set `ood.images` in params.yaml to a folder of images, or to negatives, and run `dvc repro`."
        return sentence("ood", "No images of another kind were tried", text)
    claim = f"On {_named(images)} R² is {_changes(ood)}"
    figure, axes = canvas(claim)
    pairs = [(source, target) for source in models for target in models]
    r2 = {
        images: rows.set_index(["source", "target"])["r2_channel"].loc[pairs]
        for images, rows in ood.groupby("images")
    }
    pairs.sort(key=lambda pair: (pair[0] != pair[1], -float(r2["held-out"][pair])))  # own first, then by value
    r2 = {images: values.loc[pairs] for images, values in r2.items()}
    heights = range(len(pairs))
    axes.hlines(heights, r2["held-out"], r2["other"], color=MUTED, linewidth=1.2)
    for images, (marker, colour) in SIDES.items():
        axes.plot(r2[images], heights, marker, color=colour, markersize=7, label=f"{images} images")
    axes.set_yticks(heights, [f"{source} → {target}" for source, target in pairs])
    axes.invert_yaxis()
    axes.axvline(0, color=MUTED, linewidth=1.0)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="R² of the target from the source's codes", xlim=(None, 1))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    note = (
        "The same SAE in the same units. Below 0 the reconstruction "
        f"misses the mean to which they have moved the target. At most {int(ood['count'].max())} images of each."
    )
    return Picture("ood", claim, note, figure)


def _named(images: str | None) -> str:
    """What the other images are: negatives, or those of a folder by its name."""
    if images is None:
        return "images of another kind"
    return "negatives of the held-out images" if images == NEGATIVES else f"the images of {Path(images).name}"


def _changes(ood: pd.DataFrame) -> str:
    """Mean R2 of a model's own codes and of another's, on both kinds of images."""
    own = ood["source"] == ood["target"]
    means = {
        name: rows.groupby("images")["r2_channel"].mean()
        for name, rows in (("own", ood[own]), ("other", ood[~own]))
        if len(rows)
    }
    changes = [
        f"{means[name]['other']:.2f} from {words} ({means[name]['held-out']:.2f} held out)"
        for name, words in (("own", "the model's own codes"), ("other", "another model's"))
        if name in means
    ]
    return ", ".join(changes)
