"""The method that a variant names, before its first step."""

from typing import cast

from usae.common.methods import UNIVERSAL, method_module
from usae.training.loop import universal
from usae.training.loop.method import Method, Start


def new_method(given: Start) -> Method:
    """The universal SAE's, or what `start` of `usae/methods/NAME.py` gives.

    Raises:
        UserError: there is no such method.
    """
    name = given.variant.method
    return universal.start(given) if name == UNIVERSAL else cast(Method, method_module(name).start(given))
