"""What the pages have in common: a template and the files beside it become one file (stage `report`)."""

from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def environment(folder: Path) -> Environment:
    """Templates of `folder`: what they are given is escaped, what they are not given is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inlined(files: Iterable[Path]) -> Markup:
    """The texts of styles or scripts, one after another, as they go into a page."""
    return Markup("\n".join(file.read_text(encoding="utf-8") for file in files))
