"""Whether all that a stage reads is there: `dvc.yaml` says what that is and who makes it (stage `report`).

A reader may open part of a run (`Run.load`). A page drawn from part of one would look like the whole.
"""

from pathlib import Path

from usae.common.errors import UserError
from usae.common.params.yaml_text import read_yaml

DVC_FILE = "dvc.yaml"


def check_inputs(stage: str, root: Path = Path()) -> None:
    """Raise where files or folders are absent that other stages of `root`'s dvc.yaml make for `stage`.

    Raises:
        UserError: some are; all are named, each with the command that makes it.
    """
    stages = read_yaml((root / DVC_FILE).read_text(encoding="utf-8"))["stages"]
    absent = {path for path in stages[stage]["deps"] if not (root / path).exists()}
    made = {name: [path for path in maker["outs"] if path in absent] for name, maker in stages.items()}
    if faults := [f"{', '.join(paths)}: `dvc repro {name}`" for name, paths in made.items() if paths]:
        raise UserError.listing(f"Stage `{stage}` needs what is not there; run the stages that make it:", faults)
