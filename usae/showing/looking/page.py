"""Write the page of `usae look`: pictures of one's own, the concepts that fire most in them, and where.

The template and its style lie beside this file; the look is the explorer's. One file, without network or script.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from usae.common.files.whole import write_output
from usae.sae.sparse import SparseCodes
from usae.showing.explorer.page import WEB as EXPLORER
from usae.showing.explorer.wording import number
from usae.showing.figures.heat import heat_rgba
from usae.showing.figures.theme import model_colours
from usae.showing.looking.beside import Beside
from usae.showing.looking.firing import Seen, codes_of, strongest
from usae.showing.looking.reading import Pictured, PictureReader, square
from usae.showing.pages import environment, inlined
from usae.showing.scripts import data_uri, webp

HERE = Path(__file__).parent
SIDE = 256  # pixels of a picture on the page


@dataclass(frozen=True)
class Look:
    """What the page is about. count: strongest concepts of each model; beside: the run's tables, or None."""

    readers: Mapping[str, PictureReader]
    count: int
    beside: Beside | None = None


def write_look(look: Look, pictures: Sequence[Pictured], page: Path) -> Path:
    """Write `page`; returns it.

    Raises:
        UserError: a picture cannot be read, or the disk does not take the page.
    """
    codes = {model: reader.encode(pictures) for model, reader in look.readers.items()}
    sections = [_section(look, picture, codes_of(codes, place), page) for place, picture in enumerate(pictures)]
    templates = environment(HERE)
    templates.filters |= {"number": number}
    text = templates.get_template("template.html.jinja").render(
        style=inlined(folder / "style.css" for folder in (EXPLORER, HERE)),
        colours=model_colours(list(look.readers)),
        count=look.count,
        sections=sections,
        report=look.beside is not None,
    )
    write_output(page, text.encode())
    return page


def _section(look: Look, picture: Pictured, codes: Mapping[str, SparseCodes], page: Path) -> dict[str, Any]:
    """One picture with its concepts."""
    reader = next(iter(look.readers.values()))
    found = strongest(codes, reader.grid, look.count)
    name = "picture" if isinstance(picture, Image.Image) else Path(picture).name
    return {
        "name": name,
        "photo": webp(Image.fromarray(square(picture, reader.fit, SIDE))),
        "tokens": reader.grid**2,
        "concepts": [_concept(look.beside, concept, seen, page) for concept, seen in found.items()],
    }


def _concept(beside: Beside | None, concept: int, seen: Mapping[str, Seen], page: Path) -> dict[str, Any]:
    return {
        "id": concept,
        "label": beside.label(concept) if beside else "",
        "link": beside.link(concept, page) if beside else "",
        "photos": beside.photos(concept) if beside else [],
        "models": [
            {
                "name": model,
                "heat": heat(each),
                "seen": each,
                "usual": beside.mean(concept, model) if beside else None,
            }
            for model, each in seen.items()
        ],
    }


def heat(seen: Seen) -> str:
    """The heatmap as a PNG of one pixel a token, as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(heat_rgba(seen.codes, float(seen.codes.max()))).save(buffer, "png", optimize=True)
    return data_uri(buffer.getvalue(), "image/png")
