"""`params.yaml` from disk: YAML to typed sections, and every fault in one sentence each."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from usae.common.errors import UserError
from usae.common.params.checks import cross_faults
from usae.common.params.sections import BackboneParams, ModelParams, Params, TrainParams
from usae.common.params.yaml_text import read_yaml

PARAMS_FILE = Path("params.yaml")
S = TypeVar("S", bound=BaseModel)


def load_params(path: str | Path = PARAMS_FILE) -> Params:
    """The settings in `path`.

    Raises:
        UserError: the file is missing, is not YAML, or holds faults; all faults are listed.
    """
    return parse_params(read_params(Path(path)), str(path))


def read_params(path: Path = PARAMS_FILE) -> Any:
    """What `path` holds, as plain values; lists are tuples.

    Raises:
        UserError: the file is missing, or is not YAML.
    """
    if not path.is_file():
        raise UserError(
            f"The settings file '{path}' does not exist here ({Path.cwd()}). "
            "Run from the repository's root, or copy one: cp presets/demo.yaml params.yaml"
        )
    try:
        return _tuples(read_yaml(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' should be text in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"'{path}' is not valid YAML: {error}") from error
    except RecursionError as error:
        raise UserError(f"'{path}' holds something that refers to itself (& and *); write it out.") from error


def parse_params(raw: Any, origin: str = "params") -> Params:
    """Validate a plain mapping (see `load_params`)."""
    if faults := faults_of(raw):
        raise UserError.listing(f"'{origin}' has faults:", faults)
    return Params.model_validate(_tuples(raw))


def faults_of(raw: Any) -> list[str]:
    """Every fault of a plain mapping, a sentence each: of single keys, and where there is none, between keys."""
    try:
        return cross_faults(Params.model_validate(_tuples(raw)))
    except ValidationError as error:
        return _sentences(error)


def part_of(section: type[S], raw: Any) -> S | None:
    """One section of a mapping that may have faults elsewhere; None where this one has some."""
    try:
        return section.model_validate(_tuples(raw))
    except ValidationError:
        return None


def parse_train(raw: dict[str, Any]) -> TrainParams:
    """The section `train` alone.

    Raises:
        UserError: it has faults; all are listed.
    """
    try:
        return TrainParams.model_validate(_tuples(raw))
    except ValidationError as error:
        raise UserError.listing("The recipe has faults:", _sentences(error, ("train",))) from error


def _tuples(value: Any) -> Any:
    """YAML knows lists only; the frozen sections hold tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _sentences(error: ValidationError, section: tuple[str, ...] = ()) -> list[str]:
    """One sentence for each of pydantic's findings, in a section or in the whole file."""
    sentences = []
    for fault in error.errors():
        location = (*section, *(str(part) for part in fault["loc"]))
        key = ".".join(location) or "the file"
        if fault["type"] == "extra_forbidden":
            sentences.append(_unknown_key(location))
        elif fault["type"] == "missing":
            sentences.append(f"`{key}` is missing; presets/ has files with every key.")
        else:
            sentences.append(f"`{key}`: {fault['msg'].lower()}, found {fault['input']!r}.")
    return sentences


def _unknown_key(location: tuple[str, ...]) -> str:
    """'`train.epoch` is not a parameter; did you mean `train.epochs`?' with the known keys."""
    keys = _known_keys(location[:-1])
    close = difflib.get_close_matches(location[-1], keys, n=1)
    prefix = ".".join(location[:-1])
    guess = f" Did you mean `{'.'.join(filter(None, [prefix, close[0]]))}`?" if close else ""
    return f"`{'.'.join(location)}` is not a parameter.{guess} Known here: {', '.join(keys)}."


def _known_keys(location: tuple[str, ...]) -> list[str]:
    """The keys allowed at a place in the file."""
    if location[:1] == ("zoo",):
        section: type[BaseModel] = BackboneParams if location[-1] == "backbone" else ModelParams
    else:
        section = Params
        for part in location:
            annotation = section.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    return sorted(section.model_fields)
