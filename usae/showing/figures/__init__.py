"""Figures of the reports: each a sentence computed from the data, and the plot that shows it (stage `report`)."""

from collections.abc import Sequence

from usae.showing.figures.agreement import agreement_picture, sensitivity_picture
from usae.showing.figures.controls import controls_picture
from usae.showing.figures.curves import loss_picture, probe_picture
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


def pictures(reports: Reports, models: Sequence[str], agreement: float) -> list[Picture]:
    """Every figure that needs only tables, in the order in which the page shows them; `agreement`: asked of a
    concept that all models share.
    """
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
        consistency_picture(reports["consistency"], models),
        stitching_picture(reports["stitching"]),
        onboarding_picture(reports["onboarding"], reports["reconstruction"], models),
        ood_picture(reports["ood"], models),
        loss_picture(reports["training"], models),
        probe_picture(reports["probes"], models),
        planted_picture(reports["planted"]),
    ]


def method_pictures(compared: Compared) -> list[Picture]:
    """The figures of the page that compares methods, in its order."""
    return [
        translation_picture(compared),
        ladder_picture(compared),
        modes_picture(compared),
        method_funnels_picture(compared),
        sharing_picture(compared.sharing),
        method_stability_picture(compared),
        costs_picture(compared),
    ]


__all__ = ["Picture", "method_pictures", "pictures"]
