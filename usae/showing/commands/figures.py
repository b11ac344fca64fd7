"""Figures of chosen concepts, as SVG and PNG.

usae figures heatmaps 12 40 7 --images 6 --output figures   # paper Fig. 4
usae figures maximised 12 40                                # paper Fig. 8; without numbers: all there are
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from usae.common.errors import UserError
from usae.showing.figures.chosen_concepts import IMAGES, heatmap_picture, maximised_picture
from usae.showing.results.run import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one figure and print the files; 0 when it is drawn, 1 when it cannot be."""
    options = _parser().parse_args(arguments)
    try:
        run = Run.load(options.run)
        if options.figure == "heatmaps":
            picture = heatmap_picture(run, options.concepts, options.images)
        else:
            picture = maximised_picture(run, options.concepts)
    except UserError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    sys.stdout.write("".join(f"{path}\n" for path in picture.save(options.output)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="usae figures", description="Figures of chosen concepts.")
    parser.add_argument("figure", choices=["heatmaps", "maximised"])
    parser.add_argument("concepts", nargs="*", type=int, help="numbers of concepts")
    parser.add_argument("--images", type=int, default=IMAGES, help="images per concept (heatmaps)")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder for the files")
    parser.add_argument("--run", type=Path, default=Path(), help="root of a finished run")
    return parser
