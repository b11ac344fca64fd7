"""The stages of `dvc.yaml`, one module each, all of one shape: params in, one library call, one summary line."""

import functools
import gc
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable

from usae.common.runtime.interrupts import one_line

sys.excepthook = one_line  # before the imports that take seconds
# What is imported stays: to look through it for garbage, again and again, takes a sixth of a stage's start.
gc.disable()  # until `stage`, which is called when all is imported, and leaves that out for good

from usae.common.errors import Interrupted, UserError  # noqa: E402
from usae.common.files.whole import disk_sentence  # noqa: E402
from usae.common.params import Params, load_params  # noqa: E402
from usae.common.runtime.progress import spoken  # noqa: E402

log = logging.getLogger("usae")

# Read when torch loads. Threads that wait asleep cost a little on an idle machine (an earlier demo: 3 min 16 s
# against 3 min 6 s); threads that spin make a stage many times slower as soon as another process wants the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def stage(function: Callable[..., str]) -> Callable[[], None]:
    """Turn `function(params, *arguments) -> summary` into a command.

    Arguments come from the command line (the matrix stages pass a model's slug). A `UserError` ends the
    command with its text and status 1, as does what a disk refuses, `Interrupted` with the status of its signal
    (130, 143), Ctrl-C with one line; anything else is a bug and keeps its traceback.
    """
    gc.freeze()
    gc.enable()
    name = function.__module__ if function.__module__ != "__main__" else _main_module(function)
    wanted = list(inspect.signature(function).parameters)[1:]

    @functools.wraps(function)
    def command() -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        if len(sys.argv) - 1 != len(wanted):
            sys.exit(f"usage: python -m {name} {' '.join(argument.upper() for argument in wanted)}".rstrip())
        started = time.monotonic()
        try:
            with spoken():
                summary = function(load_params(), *sys.argv[1:])
        except Interrupted as error:
            sys.stderr.write(f"\n{error}\n")
            sys.exit(error.status)
        except UserError as error:
            sys.exit(f"\n{error}")
        except OSError as error:
            sys.exit(f"\n{disk_sentence(error)}")
        log.info("%s: %s (%.1f s)", " ".join([name, *sys.argv[1:]]), summary, time.monotonic() - started)

    return command


def checked_model(params: Params, model: str) -> str:
    """`model` when it is a slug of the zoo.

    Raises:
        UserError: it is not; the known slugs are named.
    """
    if model not in params.zoo:
        raise UserError(f"'{model}' has no entry under `zoo` in params.yaml; known: {', '.join(params.zoo)}.")
    return model


def _main_module(function: Callable[..., str]) -> str:
    spec = function.__globals__.get("__spec__")
    return spec.name if spec is not None else function.__module__
