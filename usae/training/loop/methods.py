"""The method that a variant names: the universal SAE's, or a file in `usae/methods/`."""

import importlib
from typing import cast

from usae.common.errors import UserError
from usae.common.variant import UNIVERSAL
from usae.training.loop import universal
from usae.training.loop.method import Method, Start


def new_method(given: Start) -> Method:
    """`start` of `usae/methods/NAME.py`: a method's file is its name, and no list names them all.

    So a new file is in the dependencies of no stage; those of the stage that names it have to list it.

    Raises:
        UserError: there is no such method.
    """
    name = given.variant.method
    if name == UNIVERSAL:
        return universal.start(given)
    try:
        module = importlib.import_module(f"usae.methods.{name}")
    except ModuleNotFoundError as error:
        if error.name not in ("usae.methods", f"usae.methods.{name}"):  # something that the method itself needs
            raise
        raise UserError(f"There is no method '{name}': usae/methods/{name}.py does not exist.") from error
    return cast(Method, module.start(given))
