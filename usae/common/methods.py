"""Methods by name: the universal SAE is at home in this package, every other one in a file of `usae/methods/`."""

import importlib
from types import ModuleType

from usae.common.errors import UserError

UNIVERSAL = "universal"


def method_module(name: str) -> ModuleType:
    """`usae/methods/NAME.py`: a method's file is its name, and no list names them all.

    So a new file is in the dependencies of no stage; those of a stage that names it have to list it.

    Raises:
        UserError: there is no such method.
    """
    home = f"usae.methods.{name}"
    try:
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name not in ("usae.methods", home):  # something that the method itself needs
            raise
        raise UserError(f"There is no method '{name}': usae/methods/{name}.py does not exist.") from error
