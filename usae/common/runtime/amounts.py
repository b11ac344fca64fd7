"""What is said where a parameter asks for more images than there are, by a stage and by `usae check`."""

import logging
import os

log = logging.getLogger("usae")


def fewer(key: str, asked: int | None, there: int, kind: str = "training") -> str | None:
    """The sentence for `params.yaml`'s `key`; None where there are as many as it asks for, or it asks for all."""
    if asked is None or asked <= there:
        return None
    return f"`{key}` asks for {asked}, but there are {there} {kind} images: all of them are taken."


def say_fewer(key: str, asked: int | None, there: int, kind: str = "training") -> None:
    """The same as a line of the log, of one process where there are several."""
    if (sentence := fewer(key, asked, there, kind)) and os.environ.get("RANK", "0") == "0":
        log.info("%s", sentence)
