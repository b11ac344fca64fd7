"""Small tables of stage `compare`, as figures and page read them: one seed, three models."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from tests.support.synthetic_run import MODELS
from usae.common.tables import Table
from usae.methods.comparison.tables import METHOD_FUNNEL, METHOD_SHARING, METHODS

NAN = float("nan")
STEPS = ("alive", "in all models", "significant", "agreement", "beyond controls")
COSTS = ("label_auc", "label_auc_start", "l0", "steps", "encoder_updates", "parameters", "gflop")
# Row by row; of `shared` also the start, on re-paired images, on untrained networks.
TEXT = """
bounds|linear|ridge|1 0.349 - 0.523 -||
bounds|linear|rank-16|0.86 0.34 - 0.41 -||
bounds|linear|mcca-16|0.48 0.263 - - -||
without training|matched|hungarian|0.92 0.09 0.05 0.13 -|256 250 130 14 9 2 4|0.78 0.74 16 - - - -
without training|matched|mutual|0.92 0.07 0.04 0.1 -|256 60 33 12 8 0 1|0.76 0.74 16 - - - -
without training|hub|hub-supervised|0.58 0.278 0.2 0.34 0.52|256 240 180 66 71 30 12|0.8 0.79 16 - - 39000 -
without training|hub|hub-distilled|0.49 0.228 0.18 0.3 0.45|256 224 160 40 44 21 9|0.77 0.77 16 - - 39000 -
without training|hub|hub-language|0.56 0.29 0.21 0.35 0.5|256 235 172 71 60 33 10|0.81 0.79 16 - - 39000 -
without training|atlas|ridge|0.54 0.288 0.2 0.31 0.48|256 240 150 50 48 25 -|0.79 0.78 16 - - - -
without training|rosetta|cliques|0.2 0.05 - - -|24 24 20 6 - 0 2|0.62 - - - - - -
without training|kmeans||0.73 0.01 -0.02 0.05 0.2|256 250 90 22 24 1 6|0.75 0.74 16 - - 78000 -
joint|usae||0.84 0.392 0.09 0.46 0.68|256 250 190 40 24 1 3|0.86 0.79 16 752 250.7 157000 960|0.6 0.25 208 250
joint|usae_all||0.86 0.402 0.09 0.49 0.7|256 251 200 44 24 0 3|0.87 0.79 16 752 752 157000 2690
joint|sparc_local||0.82 0.38 0.09 0.47 0.71|256 251 196 41 24 0 2|0.86 0.79 16 752 752 157000 2690
joint|sparc||0.718 0.318 0.09 0.464 0.756|256 254 230 81 24 2 5|0.83 0.79 14.2 752 752 157000 2700|0.2 0.25 180 250
joint|crosscoder_unit||0.693 0.156 0.02 0.256 0.738|256 240 150 19 24 0 1|0.8 0.79 16 752 752 157000 1440
joint|crosscoder|masked|0.785 0.199 0.03 0.3 0.809|256 200 140 16 24 0 2|0.79 0.78 9.3 752 752 158000 2110
joint|crosscoder|calibrated|0.811 0.234 0.05 0.33 0.809|256 230 160 23 24 0 2|0.82 0.79 16 752 752 158000 2110
joint|crosscoder|refitted|0.802 0.347 0.214 0.39 0.809|256 250 210 90 95 61 20|0.84 0.82 16 752 752 197000 2110
as published|usae_published||0.1 -0.13 -0.14 0 0.08|256 256 120 18 20 - -|0.7 0.71 16 752 250.7 157000 960
"""


class Row(NamedTuple):
    """One method. quality: R2 self, cross, cross at the start, others, joint. counts: concepts alive, in all
    models, significant, shared, and shared by its floors. costs: COSTS. back: share of concepts that come back
    from another start, and before the first step; of how many.
    """

    block: str
    method: str
    form: str
    quality: tuple[float, ...]
    counts: tuple[float, ...] = ()
    costs: tuple[float, ...] = ()
    back: tuple[float, ...] = ()


SPREAD = np.array([[0.02, -0.03, 0.01], [0.04, -0.02, 0.0], [-0.02, 0.03, 0.0]])  # of R2 over pairs of models


def _row(line: str) -> Row:
    block, method, form, *numbers = (part.strip() for part in line.split("|"))
    return Row(block, method, form, *(_numbers(part) for part in numbers))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(NAN if word == "-" else float(word) for word in text.split())


ROWS = [_row(line) for line in TEXT.strip().splitlines()]


def methods(rows: Iterable[Row] = ROWS) -> pd.DataFrame:
    """Table `methods` of these rows."""
    return _frame(METHODS, [record for row in rows for record in _records(row)])


def funnel(rows: Iterable[Row] = ROWS) -> pd.DataFrame:
    """Table `method_funnel` of these rows."""
    records = []
    for row in rows:
        if row.counts:
            alive, everywhere, significant, *shared = row.counts
            for run, last in zip(("run", "start", "shuffled", "untrained"), shared, strict=True):
                shrunk = 1.0 if run == "run" else 0.7
                left = (alive, shrunk * everywhere, shrunk * significant, (shrunk * significant + last) / 2, last)
                records += [_step(row, run, *pair) for pair in zip(STEPS, left, strict=True)]
    return _frame(METHOD_FUNNEL, [record for record in records if np.isfinite(record["share"])])


def sharing(concepts: int = 64) -> pd.DataFrame:
    """Table `method_sharing`: after training every eighth latent is the first model's own, before none is."""
    records = []
    for run in ("run", "start"):
        for concept in range(concepts):
            own = run == "run" and concept % 8 == 0
            norms = np.array([0.94, 0.03, 0.03]) if own else 1 / 3 + 0.004 * (concept % 5) * np.array([1, 0, -1])
            for norm, model in zip(norms, MODELS, strict=True):
                fires = int(1000 * norm + 7 * (concept % 11))
                nu = min(1.0, 3 * norm) if concept % 16 else 0.9
                records.append(_latent(run, concept, model, norm, nu, fires))
    return _frame(METHOD_SHARING, records)


def seeds(table: pd.DataFrame, count: int, spread: float = 0.002) -> pd.DataFrame:
    """The same with `count` seeds: the others lie `spread` of the value apart; intervals of 1 % over images."""
    run = table[table["run"] == "run"]
    others = [run.assign(run=f"seed-{n}", value=run["value"] * (1 + spread * n)) for n in range(1, count)]
    own = table.assign(low=table["value"] * 0.99, high=table["value"] * 1.01)
    return pd.concat([own, *others], ignore_index=True)


def _records(row: Row) -> list[dict]:
    of = {"run": "run", "block": row.block, "method": row.method, "form": row.form or None}
    own, cross, before, others, joint = row.quality
    found = [
        *_matrix(own, cross, others, joint),
        _number("r2_self_mean", own, mode="single"),
        _number("r2_cross_mean", cross, mode="single"),
        _number("r2_cross_mean", before, mode="single", run="start"),
        _number("r2_mean", others, mode="others"),
        _number("r2_mean", joint, mode="joint"),
        *_counted(*row.counts),
        *_costs(*row.costs),
        *_again(*row.back),
    ]
    return [of | record for record in found if np.isfinite(record["value"])]


def _number(measure: str, value: float, **more: object) -> dict:
    return {"measure": measure, "value": value} | more


def _counted(*counts: float) -> list[dict]:
    if not counts:
        return []
    alive, _, _, shared, *floors = counts
    runs = zip(("start", "shuffled", "untrained"), floors, strict=True)
    return [
        _number("alive", alive),
        _number("shared", shared, null=0.0),
        *(_number("shared", value, run=run) for run, value in runs),
        _number("r2_cross_mean", -0.08, mode="single", run="shuffled"),
    ]


def _again(*ends: float) -> list[dict]:
    cells = zip(("comes_back_share",) * 2 + ("judged",) * 2, ends, ("run", "start") * 2, strict=bool(ends))
    return [_number(measure, value, run=run) for measure, value, run in cells]


def _costs(*costs: float) -> list[dict]:
    return [
        _number(name.removesuffix("_start"), value, run="start" if name.endswith("_start") else "run")
        for name, value in zip(COSTS, costs, strict=bool(costs))
    ]


def _matrix(own: float, cross: float, others: float, joint: float) -> list[dict]:
    means = np.where(np.eye(3, dtype=bool), own, cross) + SPREAD
    cells = [(source, target, means[s, t]) for s, source in enumerate(MODELS) for t, target in enumerate(MODELS)]
    found = [{"mode": "single", "source": s, "target": t, "measure": "r2", "value": r2} for s, t, r2 in cells]
    for mode, mean in (("others", others), ("joint", joint)):
        found += [{"mode": mode, "target": model, "measure": "r2", "value": mean} for model in MODELS]
    return found


def _step(row: Row, run: str, step: str, left: float) -> dict:
    count = {"concepts": int(left) if np.isfinite(left) else 0, "share": left / row.counts[0]}
    return {"method": row.method, "form": row.form or None, "run": run, "step": step} | count


def _latent(run: str, concept: int, model: str, norm: float, nu: float, fires: int) -> dict:
    return {"method": "crosscoder", "run": run, "concept_id": concept, "model": model, "relative_norm": norm,
            "nu_eps": nu, "nu_r": norm, "fires": fires}  # fmt: skip


def _frame(declared: Table, records: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(records).reindex(columns=declared.names)
