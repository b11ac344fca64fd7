"""A card per concept that fires: its images, each model's heatmaps on them, what is near it (stage `report`)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from usae.common.types import Array
from usae.evidence.codes.store import aligned_chunks
from usae.showing.explorer.album import Album, heat_sheet
from usae.showing.explorer.bands import all_images, firing_images, histograms, make_bands
from usae.showing.explorer.neighbours import Cofiring, Near, near_directions
from usae.showing.results.choice import MEAN_RANKING, Choice, shared_concepts, specific_concepts
from usae.showing.results.examples import ConceptExample, concept_examples, different
from usae.showing.results.run import Run
from usae.showing.scripts import Json, plain_value

LABELS = 3
STRIP = 5  # images of a concept without a full card
EMPTY: Json = {"owner": None, "started": None, "bands": None, "histogram": None, "near": {}, "place": None}


def ranked_concepts(concepts: pd.DataFrame) -> list[int]:
    """Every concept that fires: those that the models share, best first, then the others by energy."""
    shared = [choice.concept for choice in shared_concepts(concepts, len(concepts))]
    alive = concepts[concepts["alive"] & ~concepts["concept_id"].isin(shared)]
    others = alive.sort_values(["energy", "concept_id"], ascending=[False, True])["concept_id"]
    return shared + [int(concept) for concept in others]


def chosen(run: Run) -> list[Choice]:
    """The concepts with full cards: the first of `ranked_concepts`, and those most specific to each model."""
    tables, report = run.reports, run.params.report
    choices = [Choice(concept) for concept in ranked_concepts(tables["concepts"])[: report.concepts]]
    specific = specific_concepts(tables["concepts"], tables["concept_models"], run.params.models, report.unique)
    return list({choice.concept: choice for choice in choices + specific}.values())


def make_cards(run: Run, album: Album) -> Json:
    """The cards by concept, the full ones first: `owner`, `rankings`, `started`, `near`, `labels`; of the other
    concepts that fire the images of the mean ranking, and `place`: how many full cards there would have to be.
    """
    choices = chosen(run)
    concepts = [choice.concept for choice in choices]
    full = full_cards(run, choices, album)
    places = {concept: place for place, concept in enumerate(ranked_concepts(run.reports["concepts"]), start=1)}
    others = [concept for concept in places if concept not in set(concepts)]
    strips = ranked_views(run, others, album, {MEAN_RANKING: STRIP})
    labels = label_chips(run.reports["label_concepts"])
    short = {concept: EMPTY | {"rankings": strips[concept], "place": places[concept]} for concept in others}
    return {str(concept): card | {"labels": labels.get(concept, [])} for concept, card in (full | short).items()}


def full_cards(run: Run, choices: Sequence[Choice], album: Album) -> dict[int, Json]:
    """Cards with all that there is, but for labels."""
    concepts, report = [choice.concept for choice in choices], run.params.report
    counts = {MEAN_RANKING: report.images} | dict.fromkeys(run.params.models, report.own_images)
    views = ranked_views(run, concepts, album, counts)
    near = neighbours(run, concepts)
    started = started_at(run, concepts, album)
    counted = firing_images(run.codes, concepts, largest_codes(run, concepts), run.params.measure.threshold)
    best = {concept: views[concept].get(MEAN_RANKING, {"images": []})["images"] for concept in concepts}
    bands, spread = make_bands(run.codes, counted, best, album, run.params.seed), histograms(counted)
    return {
        choice.concept: EMPTY
        | {
            "owner": choice.owner,
            "rankings": views[choice.concept],
            "started": started.get(choice.concept),
            "bands": bands[choice.concept],
            "histogram": spread[choice.concept],
            "near": {way: near_by_concept[choice.concept] for way, near_by_concept in near.items()},
        }
        for choice in choices
    }


def largest_codes(run: Run, concepts: Sequence[int]) -> Array:
    """(concepts,) the largest code of each in any model."""
    largest = run.reports["concept_models"].groupby("concept_id")["max_code"].max()
    return largest.reindex(list(concepts)).to_numpy(dtype=np.float32)


def ranked_views(run: Run, concepts: Sequence[int], album: Album, counts: Mapping[str, int]) -> dict[int, Json]:
    """Per concept and ranking (mean, each model) the first `counts` images, unlike ones, with their heatmaps."""
    views: dict[int, Json] = {concept: {} for concept in concepts}
    for ranking, count in counts.items():
        if not count:
            continue
        choices = [Choice(concept, None if ranking == MEAN_RANKING else ranking) for concept in concepts]
        for example in concept_examples(choices, run.reports["exemplars"], run.codes, count, album.sketch):
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


def images_of(cards: Mapping[str, Json]) -> list[int]:
    """All images that these cards show, card by card."""
    return list(dict.fromkeys(image for card in cards.values() for image in _images(card)))


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


def _view(example: ConceptExample) -> Json:
    return {
        "images": list(example.images),
        "heat": heat_sheet(example),
        "peaks": [plain_value(example.peak(model)) for model in example.models],
        "tops": [[plain_value(float(tile.max())) for tile in codes] for codes in example.codes],
    }


def _rounded(pairs: Near) -> Near:
    return [(concept, round(value, 3)) for concept, value in pairs]


def _images(card: Json) -> Iterator[int]:
    for view in card["rankings"].values():
        yield from view["images"]
    if card["bands"]:
        yield from all_images(card["bands"])
    if card["started"]:
        yield from card["started"]["images"]
