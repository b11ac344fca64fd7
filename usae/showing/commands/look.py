"""Pictures of one's own: a page with the concepts that fire most in them, and where.

usae look dog.jpg cat.jpg                    # the run in this folder; writes look.html
usae look dog.jpg --sae user/name --models distilled
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from usae.common.errors import UserError
from usae.common.layout import Layout
from usae.evidence.estimators import load_estimator
from usae.sae.hub import folder_of
from usae.showing.looking.beside import Beside
from usae.showing.looking.page import Look, write_look
from usae.showing.looking.reading import PictureReader
from usae.showing.results.run import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and print its path; 0 when it is written, 1 when it cannot be."""
    options = _parser().parse_args(arguments)
    try:
        page = write_look(_look(options), options.pictures, options.output)
    except UserError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    sys.stdout.write(f"{page}\n")
    return 0


def _look(options: argparse.Namespace) -> Look:
    """The SAE, its networks, and the tables of its run if that is finished."""
    folder = folder_of(options.sae or Layout(options.run).usae)
    sae = load_estimator(folder)
    readers = {model: PictureReader.of(sae, model, folder) for model in options.models or sae.models}
    return Look(readers, options.top, None if options.sae else _beside(options))


def _beside(options: argparse.Namespace) -> Beside | None:
    try:
        return Beside(Run.load(options.run), options.examples)
    except UserError as error:
        sys.stderr.write(f"No labels and no example images: {error}\n")
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="usae look", description="Concepts in pictures of one's own.")
    parser.add_argument("pictures", nargs="+", type=Path, help="image files")
    parser.add_argument("--models", nargs="+", help="slugs; all of the SAE")
    parser.add_argument("--top", type=int, default=6, help="strongest concepts of each model")
    parser.add_argument("--examples", type=int, default=6, help="held-out images beside a concept")
    parser.add_argument("--output", type=Path, default=Path("look.html"), help="file to write")
    parser.add_argument("--run", type=Path, default=Path(), help="root of a run")
    parser.add_argument("--sae", help="an SAE's folder or hub name, in place of the run's")
    return parser
