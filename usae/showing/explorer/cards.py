"""One card per chosen concept: its images, each model's heatmaps on them, and what is near it (stage `report`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from usae.evidence.codes.store import aligned_chunks
from usae.showing.explorer.album import Album, heat_sheet, small_picture
from usae.showing.explorer.neighbours import Cofiring, Near, near_directions
from usae.showing.explorer.payload import Json, plain_value
from usae.showing.maximisation.pictures import picture_path, read_curves
from usae.showing.results.choice import MEAN_RANKING, Choice, shared_concepts, specific_concepts
from usae.showing.results.examples import ConceptExample, concept_examples, different
from usae.showing.results.run import Run

CURVE_POINTS = 64
LABELS = 3


def chosen(run: Run) -> list[Choice]:
    """The page's concepts: the most universal ones, those most specific to each model, and all maximised ones."""
    tables, report = run.reports, run.params.report
    choices = shared_concepts(tables["concepts"], report.concepts)
    choices += specific_concepts(tables["concepts"], tables["concept_models"], run.params.models, report.unique)
    maximised = tables["maximisation"]
    chosen_already = {choice.concept for choice in choices}
    extra = maximised.loc[maximised["kind"] == "concept", "concept_id"].unique() if len(maximised) else ()
    return choices + [Choice(int(concept)) for concept in extra if int(concept) not in chosen_already]


def make_cards(run: Run, album: Album) -> Json:
    """The cards by concept: `owner`, `rankings`, `started`, `near`, `labels`, `maximised`."""
    choices = list({choice.concept: choice for choice in chosen(run)}.values())
    concepts = [choice.concept for choice in choices]
    views = ranked_views(run, concepts, album)
    near = neighbours(run, concepts)
    labels = label_chips(run.reports["label_concepts"])
    maximised = maximised_cells(run)
    started = started_at(run, concepts, album)
    return {
        str(choice.concept): {
            "owner": choice.owner,
            "rankings": views[choice.concept],
            "started": started.get(choice.concept),
            "near": {way: near_by_concept[choice.concept] for way, near_by_concept in near.items()},
            "labels": labels.get(choice.concept, []),
            "maximised": maximised.get(choice.concept),
        }
        for choice in choices
    }


def ranked_views(run: Run, concepts: Sequence[int], album: Album) -> dict[int, Json]:
    """Per concept and ranking (mean, each model) the images with their heatmaps; the mean has most of them."""
    report, exemplars = run.params.report, run.reports["exemplars"]
    rankings = {MEAN_RANKING: report.images} | dict.fromkeys(run.params.models, report.own_images)
    views: dict[int, Json] = {concept: {} for concept in concepts}
    for ranking, count in rankings.items():
        if not count:
            continue
        choices = [Choice(concept, None if ranking == MEAN_RANKING else ranking) for concept in concepts]
        for example in concept_examples(choices, exemplars, run.codes, count, album.sketch):
            if example.images:
                views[example.choice.concept][ranking] = _view(example)
    return views


def started_at(run: Run, concepts: Sequence[int], album: Album) -> dict[int, Json]:
    """Per concept its best images before the first step, `report.own_images` unlike ones, and how many of all of
    them, `of`, it still has among its best (`kept`); of those that had any.
    """
    before, after = run.reports["start_exemplars"], run.reports["exemplars"]
    if before.empty:
        return {}
    best = after[after["ranking"] == MEAN_RANKING].groupby("concept_id")["image"].agg(set)
    ranked = before[before["concept_id"].isin(concepts)].sort_values("rank").groupby("concept_id")["image"]
    return {
        int(concept): {  # type: ignore[arg-type]
            "images": different(images.tolist(), run.params.report.own_images, album.sketch),
            "kept": len(best.get(concept, set()) & set(images)),
            "of": len(images),
        }
        for concept, images in ranked
    }


def images_of(cards: Mapping[str, Json]) -> set[int]:
    """All images that these cards show."""
    ranked = {image for card in cards.values() for view in card["rankings"].values() for image in view["images"]}
    return ranked | {image for card in cards.values() for image in (card["started"] or {}).get("images", ())}


def neighbours(run: Run, concepts: Sequence[int]) -> dict[str, dict[int, Near]]:
    """Way of being near (tokens, or a model's slug) -> concept -> the nearest ones."""
    first = next(iter(run.codes.values()))
    cofiring = Cofiring(concepts, first.concepts, run.params.measure.threshold)
    for chunks in aligned_chunks(run.codes):
        cofiring.update(chunks)
    sae = run.usae()
    near = {"tokens": cofiring.near()} | {m: near_directions(sae, m, concepts) for m in run.params.models}
    return {way: {c: _rounded(pairs) for c, pairs in by.items()} for way, by in near.items()}


def label_chips(label_concepts: pd.DataFrame) -> dict[int, list[Json]]:
    """Per concept the labels that it fits best of all concepts of a model (table label_concepts)."""
    if label_concepts.empty:
        return {}
    chips: dict[int, list[Json]] = {}
    for row in label_concepts.sort_values("iou", ascending=False).itertuples():
        values = {name: plain_value(getattr(row, name)) for name in ("label", "model", "iou", "auroc")}
        chips.setdefault(int(row.concept_id), []).append(values)  # type: ignore[arg-type]
    return {concept: labels[:LABELS] for concept, labels in chips.items()}


def maximised_cells(run: Run) -> dict[int, Json]:
    """Per maximised concept the pictures of start 0, their curves, and every model's score of every picture."""
    table = run.reports["maximisation"]
    if table.empty:
        return {}
    curves = read_curves(run.maximised)
    curves = curves[(curves["kind"] == "concept") & (curves["start"] == 0)]
    lines = {key: rows["score"].tolist() for key, rows in curves.groupby(["concept_id", "model"])}
    first = table[(table["kind"] == "concept") & (table["start"] == 0)]
    repeats = table[table["kind"] == "concept"].groupby(["concept_id", "model"])["repeat"].mean()
    return {
        int(concept): {  # type: ignore[arg-type]
            "pictures": _pictures(run, int(concept)),  # type: ignore[arg-type]
            "curves": {model: _thinned(lines.get((concept, model), [])) for model in run.params.models},
            "z": _matrix(rows, run.params.models, "z"),
            "percentile": _matrix(rows, run.params.models, "percentile"),
            "real_images": int(rows["real_images"].max()),
            "repeat": {model: plain_value(repeats.get((concept, model))) for model in run.params.models},
        }
        for concept, rows in first.groupby("concept_id")
    }


def control_cell(table: pd.DataFrame) -> Json | None:
    """What random directions reach: mean z in the own and in other models; None where there are none."""
    random = table[table["kind"] == "random"] if len(table) else table
    if random.empty:
        return None
    own = random["model"] == random["scored_by"]
    means = {"own": random.loc[own, "z"].mean(), "others": random.loc[~own, "z"].mean()}
    return {name: plain_value(float(value)) for name, value in means.items()} | {
        "directions": int(random["concept_id"].nunique())
    }


def _view(example: ConceptExample) -> Json:
    return {
        "images": list(example.images),
        "heat": heat_sheet(example),
        "peaks": [plain_value(example.peak(model)) for model in example.models],
        "tops": [[plain_value(float(tile.max())) for tile in codes] for codes in example.codes],
    }


def _pictures(run: Run, concept: int) -> Mapping[str, str | None]:
    paths = {model: picture_path(run.maximised, str(concept), model) for model in run.params.models}
    return {model: small_picture(path) if path.is_file() else None for model, path in paths.items()}


def _matrix(rows: pd.DataFrame, models: Sequence[str], column: str) -> list[list[Any]]:
    """(made for, seen by)."""
    table = rows.pivot(index="model", columns="scored_by", values=column).reindex(
        index=list(models), columns=list(models)
    )
    return [[plain_value(float(value)) for value in row] for row in table.to_numpy()]


def _thinned(line: Sequence[float]) -> list[Any]:
    step = max(1, len(line) // CURVE_POINTS)
    return [plain_value(float(value)) for value in line[::step]]


def _rounded(pairs: Near) -> Near:
    return [(concept, round(value, 3)) for concept, value in pairs]
