"""Do the codes explain their own model, and another one better than re-paired images and linear maps say?"""

import math

import pandas as pd

from usae.evidence.controls.names import RUN, SHUFFLED
from usae.evidence.metrics.summary import HELD_OUT, INDEPENDENT, USAE
from usae.evidence.verdict.answers import Answer, Evidence, answered, r2_text, share_text, unasked, worse
from usae.evidence.verdict.bars import LINEAR_SHARE, OWN_SHARE
from usae.evidence.verdict.levels import CAUTION, UNREADABLE

LONGER = "Raise `train.epochs` or `images.train`"
CONTROLS = "Train the controls: `evidence: full`, section `controls` as in presets/demo.yaml, then `dvc repro`"


def own_variance(evidence: Evidence) -> Answer:
    """R2 of every model's own codes: at 0 the mean of its tokens says as much."""
    own = _own(evidence, USAE)
    model, least = str(own.idxmin()), float(own.min())
    return answered(
        "own variance",
        worse(not least > 0, UNREADABLE),
        (least, 0),
        f"The codes of `{model}` explain {r2_text(least)} of its own held-out variance, the least of all models",
        f"{LONGER}; if the loss rose, lower `train.learning_rate`",
    )


def own_sae(evidence: Evidence) -> Answer:
    """The same beside what an SAE of that model alone explains, the best that could be asked for."""
    question, alone = "own SAEs", _own(evidence, INDEPENDENT)
    if alone.empty:
        return unasked(question, "how much an SAE of each network alone explains", CONTROLS)
    shares = (_own(evidence, USAE) / alone.where(alone > 0)).dropna()
    if shares.empty:
        reason = "An SAE of each network alone explains nothing of it, held out"
        return answered(question, CAUTION, (math.nan, OWN_SHARE), reason, f"{LONGER}, or choose another `layer`")
    least = float(shares.min())
    return answered(
        question,
        worse(least < OWN_SHARE, CAUTION),
        (least, OWN_SHARE),
        f"The codes of `{shares.idxmin()}` explain {_of(least)} of what an SAE of it alone does, the least of all "
        f"models ({share_text(OWN_SHARE)} asked)",
        "Raise `train.epochs`, then `train.dictionary` or `k`",
    )


def across(evidence: Evidence) -> Answer:
    """R2 of another model's codes, less what training on re-paired images reaches on the same held-out ones."""
    question = "re-paired images"
    run, control = (evidence.measured(name, "r2_cross_mean") for name in (RUN, SHUFFLED))
    if math.isnan(run - control):
        return unasked(
            question, "how much of another model is explained after training on re-paired images", CONTROLS
        )
    low, high = (evidence.measured(SHUFFLED, "r2_cross_mean", f"run_less_{end}") for end in ("low", "high"))
    interval = "" if math.isnan(low) else f", 95 % interval {low:.2f} to {high:.2f}"
    return answered(
        question,
        worse(not run > control or low <= 0, UNREADABLE),
        (run - control, 0),
        f"Codes explain {r2_text(run)} of another model, after training on re-paired images {r2_text(control)} "
        f"(difference {run - control:.2f}{interval}; more than 0 asked)",
        f"{LONGER}; see that all models read the same images on one grid (`extract.grid`, `extract.fit`)",
    )


def linear(evidence: Evidence) -> Answer:
    """The same as a share of what the best linear map between the two models explains."""
    question, rows = "linear maps", _held_out(evidence, USAE)
    cross = rows[rows["source"] != rows["target"]]
    if "r2_ridge" not in cross or cross["r2_ridge"].isna().all():
        return unasked(question, "what linear maps between the models explain", "Run `dvc repro measure`")
    run, ceiling = float(cross["r2_channel"].mean()), float(cross["r2_ridge"].mean())
    if ceiling <= 0:
        reason = f"The best linear maps explain {r2_text(ceiling)} of another model"
        advice = "Raise `images.train`, or choose other layers"
        return answered(question, CAUTION, (math.nan, LINEAR_SHARE), reason, advice)
    return answered(
        question,
        worse(run / ceiling < LINEAR_SHARE, CAUTION),
        (run / ceiling, LINEAR_SHARE),
        f"Codes explain {_of(run / ceiling)} of what the best linear maps explain of another model "
        f"({share_text(LINEAR_SHARE)} asked)",
        f"{LONGER}, then `train.dictionary`",
    )


def _of(share: float) -> str:
    return share_text(share) if share >= 0 else "nothing"


def _held_out(evidence: Evidence, sae: str) -> pd.DataFrame:
    rows = evidence["reconstruction"]
    return rows[(rows["sae"] == sae) & (rows["split"] == HELD_OUT)]


def _own(evidence: Evidence, sae: str) -> "pd.Series[float]":
    """R2 of each model's own codes, by model."""
    rows = _held_out(evidence, sae)
    return rows[rows["source"] == rows["target"]].set_index("source")["r2_channel"]
