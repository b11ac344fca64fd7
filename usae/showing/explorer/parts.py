"""The page in parts: what it holds itself, within `report.megabytes`, and files beside it (stage `report`).

Files beside the page lie in `reports/explorer/` and are loaded when looked at (`usae/showing/scripts.py`).
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from usae.showing.explorer.cards import images_of
from usae.showing.scripts import Json, script_text, write_beside

T = TypeVar("T")

FOLDER = "explorer"  # beside index.html
FIRST = 12  # cards that come before everything else, so that they show while the rest of the page is read
FILE_BYTES = 4_000_000  # about so many in a file beside the page


@dataclass
class Part:
    """Cards and the photos that only they need; `size` is about that of their text, in bytes."""

    cards: Json = field(default_factory=dict)
    photos: Json = field(default_factory=dict)
    size: int = 0

    def add(self, concept: str, card: Json, photos: Mapping[str, str]) -> None:
        """A card, and those of `photos` that are not here yet."""
        self.size += card_size(card, photos)
        self.cards[concept] = card
        self.photos |= photos

    @property
    def content(self) -> Json:
        """As the script reads it."""
        return {"cards": self.cards, "photos": self.photos}


def split(data: Json, count: int = FIRST) -> tuple[Json, Part]:
    """The payload in two: all numbers and what the first `count` cards need; the other cards and photos."""
    cards, photos = data["cards"], data["photos"]
    early = dict(list(cards.items())[:count])
    needed = {str(image) for image in images_of(early)}
    first = data | {"cards": early, "photos": {i: photo for i, photo in photos.items() if i in needed}}
    later = Part(
        {concept: card for concept, card in cards.items() if concept not in early},
        {image: photo for image, photo in photos.items() if image not in needed},
    )
    return first, later


def within(later: Part, room: int) -> tuple[Part, list[Part]]:
    """The cards of `later`, in order, as long as the page has `room` for them, in bytes; files with the others.

    A file repeats the photos of other files, so that one is enough, but none of the page's.
    """
    page = Part()
    waiting = iter(later.cards.items())
    for concept, card in waiting:
        photos = _photos(card, later.photos, page.photos)
        if page.size + card_size(card, photos) > room:
            return page, list(_files(concept, card, waiting, later.photos, page.photos))
        page.add(concept, card, photos)
    return page, []


def card_size(card: Json, photos: Mapping[str, str]) -> int:
    """About how many bytes a card and photos take."""
    return len(script_text(card)) + sum(len(photo) + 12 for photo in photos.values())


def places(beside: Sequence[Part]) -> Json:
    """The name of the file that holds a card, by concept."""
    names = named("cards", beside)
    return {concept: name for name, part in names.items() for concept in part.cards}


def named(kind: str, files: Sequence[T]) -> dict[str, T]:
    """cards-01, cards-02, ..."""
    return {f"{kind}-{number:02d}": file for number, file in enumerate(files, start=1)}


def write_files(reports: Path, beside: Mapping[str, Json]) -> None:
    """Write the files, by name, and leave none of an earlier page."""
    folder = reports / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in beside.items():
        write_beside(folder / f"{name}.js", content)


def _files(
    concept: str, card: Json, waiting: Iterable[tuple[str, Json]], photos: Json, have: Json
) -> Iterator[Part]:
    """The first card, then the others."""
    part = Part()
    part.add(concept, card, _photos(card, photos, have))
    for concept, card in waiting:
        if part.size > FILE_BYTES:
            yield part
            part = Part()
        part.add(concept, card, _photos(card, photos, have | part.photos))
    yield part


def _photos(card: Json, photos: Json, have: Json) -> Json:
    """The photos of a card that are in `photos` and not in `have`."""
    names = map(str, images_of({"": card}))
    return {name: photos[name] for name in names if name in photos and name not in have}
