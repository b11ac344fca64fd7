"""Figures of the reports: each a sentence computed from the data, and the plot that shows it (stage `report`)."""

from collections.abc import Sequence

import pandas as pd

from usae.evidence.verdict.levels import is_readable
from usae.showing.figures.agreement import agreement_picture, sensitivity_picture
from usae.showing.figures.controls import controls_picture
from usae.showing.figures.curves import loss_picture, probe_picture
from usae.showing.figures.depth import depth_picture
from usae.showing.figures.evidence import consistency_picture, null_picture
from usae.showing.figures.firing import energy_picture, entropy_picture, rank_picture
from usae.showing.figures.funnel import funnel_picture
from usae.showing.figures.interventions import onboarding_picture, stitching_picture
from usae.showing.figures.ladder import ladder_picture
from usae.showing.figures.likeness import alignment_picture, null_kinds_picture
from usae.showing.figures.matrix import r2_picture
from usae.showing.figures.method_funnels import method_funnels_picture
from usae.showing.figures.method_stability import method_stability_picture
from usae.showing.figures.methods import costs_picture, modes_picture, translation_picture
from usae.showing.figures.ood import ood_picture
from usae.showing.figures.planted import planted_picture
from usae.showing.figures.sharing import sharing_picture
from usae.showing.figures.stability import stability_picture
from usae.showing.figures.theme import Picture
from usae.showing.results.compared import Compared
from usae.showing.results.reports import Reports

COUNTING = (  # figures whose titles count concepts
    *("funnel", "agreement", "sensitivity", "stability", "controls", "nulls", "null_kinds"),
    *("method_translation", "method_ladder", "method_funnels", "method_sharing"),
)
REFUSED = "This run is not readable: its counts say nothing (table verdict has the reasons)"


def pictures(
    reports: Reports, models: Sequence[str], agreement: float, other_images: str | None = None
) -> list[Picture]:
    """Every figure that needs only tables, in the order in which the page shows them; `agreement`: asked of a
    concept that all models share; `other_images`: what `ood.images` names. Where the run is not readable, no title
    has a count.
    """
    return _without_counts(_pictures(reports, models, agreement, other_images), reports["verdict"])


def _pictures(
    reports: Reports, models: Sequence[str], agreement: float, other_images: str | None
) -> list[Picture]:
    return [
        funnel_picture(reports["funnel"]),
        agreement_picture(reports["control_concepts"], agreement),
        sensitivity_picture(reports["sensitivity"]),
        stability_picture(reports["stability"]),
        controls_picture(reports["controls"]),
        r2_picture(reports["reconstruction"], models),
        entropy_picture(reports["concepts"], reports["control_concepts"], models),
        rank_picture(reports["concept_models"], reports["control_concepts"], models),
        energy_picture(reports["concepts"], reports["controls"]),
        null_picture(reports["nulls"], models),
        null_kinds_picture(reports["nulls"], models),
        alignment_picture(reports["alignment"]),
        *([depth_picture(reports["depth"])] if len(reports["depth"]) else []),
        consistency_picture(reports["consistency"], models),
        stitching_picture(reports["stitching"]),
        onboarding_picture(reports["onboarding"], reports["reconstruction"], models),
        ood_picture(reports["ood"], models, other_images),
        loss_picture(reports["training"], models),
        probe_picture(reports["probes"], models),
        planted_picture(reports["planted"]),
    ]


def _without_counts(drawn: list[Picture], verdict: pd.DataFrame) -> list[Picture]:
    """No count in a title, where the verdict is that the run is not readable."""
    if is_readable(verdict):
        return drawn
    return [picture.under(REFUSED) if picture.name in COUNTING and picture.drawn else picture for picture in drawn]


def method_pictures(compared: Compared, verdict: pd.DataFrame) -> list[Picture]:
    """The figures of the page that compares methods, in its order; `verdict`: that table, as for `pictures`."""
    drawn = [
        translation_picture(compared),
        ladder_picture(compared),
        modes_picture(compared),
        method_funnels_picture(compared),
        sharing_picture(compared.sharing),
        method_stability_picture(compared),
        costs_picture(compared),
    ]
    return _without_counts(drawn, verdict)


__all__ = ["Picture", "method_pictures", "pictures"]
