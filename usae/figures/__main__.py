"""Figures of chosen concepts, as SVG and PNG.

python -m usae.figures heatmaps 12 40 7 --images 6 --output figures   # paper Fig. 4
python -m usae.figures maximised 12 40                                  # paper Fig. 8; without numbers: all there
are
"""

import argparse
import sys
from pathlib import Path

from usae.errors import UserError
from usae.figures.gallery import IMAGES, heatmap_picture, maximised_picture
from usae.finished import Run


def main() -> None:
    """Draw one figure and print the files."""
    arguments = _parser().parse_args()
    try:
        run = Run.load(arguments.run)
        if arguments.figure == "heatmaps":
            picture = heatmap_picture(run, arguments.concepts, arguments.images)
        else:
            picture = maximised_picture(run, arguments.concepts)
    except UserError as error:
        sys.exit(f"\n{error}")
    sys.stdout.write("".join(f"{path}\n" for path in picture.save(arguments.output)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m usae.figures", description="Figures of chosen concepts.")
    parser.add_argument("figure", choices=["heatmaps", "maximised"])
    parser.add_argument("concepts", nargs="*", type=int, help="numbers of concepts")
    parser.add_argument("--images", type=int, default=IMAGES, help="images per concept (heatmaps)")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder for the files")
    parser.add_argument("--run", type=Path, default=Path(), help="root of a finished run")
    return parser


if __name__ == "__main__":
    main()
