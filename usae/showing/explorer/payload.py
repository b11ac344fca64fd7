"""What the page's script reads: one JSON with the table of all concepts, the cards, and their pictures (stage
`report`). Numbers are those of the tables in `reports/`.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from usae.common.errors import UserError
from usae.common.params import Params
from usae.evidence.controls.names import HALF, RUN
from usae.showing.names import run_name
from usae.showing.results.choice import STOPPED
from usae.showing.scripts import Json, plain

TABLE = {  # column of table concepts -> its heading
    "cofire_proportion_min": "agreement",
    "lift": "lift",
    "cofires": "co-fires",
    "fires": "fires",
    "firing_entropy": "entropy",
    "energy": "energy",
    "models_alive": "models",
}
MODEL_TABLE = {  # column of table concept_models -> its heading
    "fires": "fires",
    "firing_rate": "rate",
    "cofire_proportion": "co-fires",
    "cofire_ceiling": "at most",
    "joins_others": "joins",
    "energy": "energy",
    "max_code": "largest code",
}
SHARES = ("cofire_proportion_min", "firing_rate", "cofire_proportion", "cofire_ceiling", "joins_others")


def concept_columns(concepts: pd.DataFrame) -> Json:
    """Every concept's numbers, column by column in the order of the rows."""
    columns: Json = {"id": concepts["concept_id"].tolist()}
    for name in (*TABLE, "top_label", "top_label_share", "top_label_base", STOPPED, "why"):
        if name in concepts:
            columns[name] = plain(concepts[name])
    return columns


def level_columns(concepts: pd.DataFrame) -> Json:
    """Every concept's level and the concept of the level before that it refines, in the order of the rows; nothing
    where there is one level.
    """
    if "level" not in concepts or concepts["level"].nunique() < 2:
        return {}
    numbers = concepts.astype({"level": int, "refines": "Int32"})
    return {name: plain(numbers[name]) for name in ("level", "refines", "refines_phi")}


def model_columns(concept_models: pd.DataFrame, concepts: pd.DataFrame, models: Sequence[str]) -> Json:
    """Every concept's numbers in each model, in the order of the rows of table concepts."""
    by_model = {model: rows.set_index("concept_id") for model, rows in concept_models.groupby("model")}
    columns = [name for name in MODEL_TABLE if name in concept_models]
    return {
        model: {name: plain(by_model[model][name].reindex(concepts["concept_id"])) for name in columns}
        for model in models
    }


def half_columns(stability: pd.DataFrame, concepts: pd.DataFrame) -> Json:
    """Every concept's correlation with its partner in each SAE of one half of the images, in the order of the rows
    of table concepts; none where no SAE saw halves.
    """
    return {
        str(half): plain(rows.set_index("concept_id")["correlation"].reindex(concepts["concept_id"]))
        for half, rows in _in_halves(stability).groupby("against")
    }


def half_tips(stability: pd.DataFrame) -> list[Json]:
    """Their headings, as `tips`."""
    tip = (
        "correlation of the codes with those of the matched concept of an SAE that saw only one half of the "
        "training images; a dash where either fires too seldom"
    )
    halves = dict.fromkeys(_in_halves(stability).get("against", ()))
    return [{"name": half, "label": f"in {run_name(half)}", "tip": tip, "share": False} for half in halves]


def _in_halves(stability: pd.DataFrame) -> pd.DataFrame:
    """Rows of the run, trained, in the SAEs of one half of the images each."""
    if stability.empty:
        return pd.DataFrame(columns=["against"])
    return stability[
        (stability["run"] == RUN) & ~stability["start"].astype(bool) & stability["against"].str.startswith(HALF)
    ]


def tips(descriptions: Mapping[str, str], names: Mapping[str, str]) -> list[Json]:
    """Of the columns shown, those that a table has: name, heading, meaning and denominator, whether a share."""
    return [
        {"name": name, "label": label, "tip": descriptions[name], "share": name in SHARES}
        for name, label in names.items()
        if name in descriptions
    ]


def check_budget(page: str, cards: int, pictures: int, params: Params) -> None:
    """Refuse a page that is above `report.megabytes` with its first cards alone.

    Raises:
        UserError: it is; the parameters that reduce it are named, with their values.
    """
    megabytes, report = len(page.encode()) / 1e6, params.report
    if megabytes > report.megabytes:
        raise UserError(
            f"reports/index.html would have {megabytes:.1f} MB, more than `report.megabytes: "
            f"{report.megabytes:g}`; {pictures / 1e6:.1f} MB of it are numbers and its first {cards} cards. Lower "
            f"`report.images` (now {report.images}), `report.own_images` ({report.own_images}) or "
            f"`report.thumbnail` ({report.thumbnail}), or allow more, then run `dvc repro report`."
        )
