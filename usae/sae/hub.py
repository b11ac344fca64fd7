"""SAEs on the Hugging Face hub: a repository is the folder that `save_pretrained` writes, with a card.

Only what asks for the hub loads `huggingface_hub`, which timm brings.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from usae.common.errors import UserError

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ["*.json", "*.safetensors", "README.md", "networks/*"]  # what a repository is read for


def folder_of(name: str | Path, revision: str | None = None) -> Path:
    """The folder `name`; of 'user/name', where there is no folder `user` here, a copy of that repository.

    revision: a branch, tag or commit of the repository.

    Raises:
        UserError: the hub has no such repository, or cannot be reached and nothing was fetched before.
    """
    folder = Path(name)
    if isinstance(name, Path) or folder.parent.exists() or not REPOSITORY.fullmatch(name):
        return folder
    hub = _hub()
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=FILES))
    except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"There is no folder '{name}' here ({Path.cwd()}), and it could not be fetched from the hub: "
            + _reason(error)
        ) from error


def upload(folder: Path, name: str, private: bool) -> str:
    """What lies in `folder` into the repository 'user/name', which is made where it is not; returns its address.

    Raises:
        UserError: the hub refuses it, or cannot be reached.
    """
    hub = _hub()
    try:
        repository = hub.HfApi().create_repo(name, private=private, exist_ok=True)
        hub.HfApi().upload_folder(repo_id=name, folder_path=folder, commit_message="Universal sparse autoencoder")
    except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"'{name}' could not be written to the hub: {_reason(error)} Are you logged in (`hf auth login`)?"
        ) from error
    return str(repository)


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UserError("The hub needs the package huggingface_hub: `pip install huggingface_hub`.") from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"
