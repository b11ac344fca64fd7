"""The command `usae` (also `python -m usae`): what the stages do not do by themselves.

usae start --images FOLDER --models A B   write a params.yaml for own images and networks
usae check [PARAMS]   say what is wrong with a params.yaml, before anything runs
usae estimate [PARAMS]   say what it will cost here: hours, disk, memory
usae store list | verify | gc   look after the activation stores
usae look PICTURE ...   concepts in pictures of one's own, as a page
usae figures heatmaps | maximised   figures of chosen concepts
usae pretrain OBJECTIVE   make a checkpoint that the demo ships
"""

import importlib
import sys
from collections.abc import Sequence

from usae.common.files.whole import disk_sentence
from usae.common.runtime.interrupts import one_line

# Imported when asked for: `usae --help` should not wait for torch.
COMMANDS = {
    "start": "usae.activations.commands.start",
    "check": "usae.activations.commands.check",
    "estimate": "usae.showing.commands.estimate",
    "store": "usae.activations.commands.store",
    "look": "usae.showing.commands.look",
    "figures": "usae.showing.commands.figures",
    "pretrain": "usae.backbones.commands.pretrain",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand the arguments to a command; its exit status, 2 where there is no such command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in COMMANDS:
        sys.excepthook = one_line
        try:
            return int(importlib.import_module(COMMANDS[words[0]]).main(words[1:]))
        except OSError as error:
            sys.stderr.write(f"{disk_sentence(error)}\n")
            return 1
    asked = not words or words[0] in ("-h", "--help")
    if not asked:
        sys.stderr.write(f"usae: '{words[0]}' is no command; there are {', '.join(COMMANDS)}.\n")
    (sys.stdout if asked else sys.stderr).write(f"{__doc__}\n`usae COMMAND --help` says more.\n")
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
