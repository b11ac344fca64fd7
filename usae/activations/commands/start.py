"""Writes a params.yaml for own images and networks, with sizes that fit them; run it from the repository's root.

usae start --images FOLDER --models NAME NAME=CHECKPOINT ... [--to params.yaml]
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from usae.activations.commands.check import report
from usae.activations.commands.outlook import Outlook, outlook
from usae.activations.commands.recipe import PRESET, common_grid, params_text, sizes, split
from usae.backbones.entry import entry_of, slug_of
from usae.common.errors import UserError
from usae.common.files.whole import write_whole
from usae.common.params import PARAMS_FILE, ImagesParams, ModelParams, read_params
from usae.common.params.yaml_text import read_yaml
from usae.images.survey import cut, survey

MODELS_HELP = "timm's networks: NAME (weights of the hub), NAME=PATH (of a checkpoint) or NAME=random"


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at images and networks, say what there is, write the file; 1 where there is a fault."""
    given = _parser().parse_args(arguments)
    try:
        if not given.force:
            refuse_losing(given.to)
        write_checked(proposal(given.images, given.models), given.to)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{given.to} is written. Next:  dvc repro   # then open reports/index.html\n")
    return 0


def proposal(images: Path, wanted: Sequence[str]) -> str:
    """The text of a params.yaml for the images below a path and timm's networks (see `entry_of`).

    Raises:
        UserError: all that stands against it.
    """
    seen, source = Outlook(), _source(images)
    pictures = seen.ask(partial(survey, ImagesParams(**source, train=None, val=None, val_share=0.1)))
    entries = [seen.ask(partial(entry_of, name)) for name in wanted]
    if pictures is None or seen.faults:
        raise UserError.listing("Nothing was written:", seen.faults)
    found = [entry for entry in entries if entry is not None]
    grid = common_grid([entry.outline.side for entry in found])
    source |= split(pictures.found)
    train = cut(pictures.found, ImagesParams(**source)).get("train", 0)
    values = {f"images.{key}": value for key, value in source.items()}
    return params_text(_named([entry.model for entry in found]), values | sizes(train, grid))


def write_checked(text: str, path: Path) -> None:
    """Print the outlook of a params.yaml, and write it.

    Raises:
        UserError: it has faults, or the disk does not take it.
    """
    seen = outlook(read_yaml(text))
    sys.stdout.write(report(seen))
    if seen.faults:
        raise UserError(f"{path} was not written.")
    write_whole(path, text.encode())


def refuse_losing(path: Path) -> None:
    """See that `path` can be written anew: it is not there, or a preset has the same values.

    Raises:
        UserError: it holds somebody's own settings.
    """
    if not path.exists():
        return
    mine, presets = read_params(path), sorted(PRESET.parent.glob("*.yaml"))
    if all(read_params(preset) != mine for preset in presets):
        raise UserError(f"{path} is there and is no preset: write elsewhere (--to), or over it with --force.")


def _source(images: Path) -> dict[str, Any]:
    """Parquet where that is what lies there, else a folder of image files."""
    parquet = images.is_file() or any(images.glob("*.parquet"))
    return {"source": "parquet" if parquet else "folder", "path": str(images)}


def _named(models: Sequence[ModelParams]) -> dict[str, ModelParams]:
    """Slugs by architecture; the second of one has its number behind it."""
    named: dict[str, ModelParams] = {}
    for model in models:
        slug = slug_of(str(model.backbone.timm))
        twins = sum(other == slug or other.startswith(f"{slug}-") for other in named)
        named[f"{slug}-{twins + 1}" if twins else slug] = model
    return named


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="usae start", description="Write a params.yaml for own images and networks."
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="image files, class folders or flat; or Parquet",
    )
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME", help=MODELS_HELP)
    parser.add_argument("--to", type=Path, default=PARAMS_FILE, help="file to write (default: params.yaml)")
    parser.add_argument("--force", action="store_true", help="write over a file that is no preset")
    return parser
