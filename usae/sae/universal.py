"""The universal sparse autoencoder: one encoder and one dictionary per model, one concept space for all.

Z = TopK(ReLU(BatchNorm(W A + b))), A_hat_j = Z D_j with unit-norm concepts (rows of D_j); paper eq. 1-4 and
appendix A.1. Trained by stage `train`, read by everything after it.
"""

import difflib
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from usae.common.errors import UserError
from usae.common.files.json_files import read_json, write_json
from usae.common.files.whole import write_output
from usae.sae.estimator import Estimator
from usae.sae.hub import folder_of, upload
from usae.sae.layers import StandardisedSAE
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes, sparse_decode

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT_VERSION = 3
DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError)


class UniversalSAE(nn.Module):
    """Encoders and dictionaries of several models that share one set of concepts.

    widths: model slug -> activation width. `config` travels with the weights: each model's backbone, layer and
    geometry, and the training settings, so that codes can be made for new images; of another method also its name,
    `method` (see `Estimator`). coarse: concepts of the levels
    up to each one but the last (see `Levels`); empty: one level.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        concepts: int,
        k: int,
        config: dict[str, Any] | None = None,
        coarse: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not 1 <= k <= concepts:
            raise UserError(f"k should be 1 to {concepts} (the dictionary's size), found {k}.")
        self.models, self.concepts, self.k = tuple(widths), concepts, k
        self.levels = Levels((*coarse, concepts), k)
        self.widths, self.config = dict(widths), config or {}
        self.parts = nn.ModuleDict({model: StandardisedSAE(width, concepts) for model, width in widths.items()})

    @classmethod
    def from_pretrained(cls, folder: str | Path, revision: str | None = None) -> "UniversalSAE":
        """The SAE saved in `folder`, or in the repository 'user/name' of the hub (see `folder_of`), in eval mode.

        Raises:
            UserError: there is none, it is of another version, or its files are not as they were written.
        """
        folder = folder_of(folder, revision)
        if not (folder / CONFIG).is_file():
            raise UserError(f"There is no SAE in '{folder}' (no {CONFIG}); run `dvc repro train` to make one.")
        try:
            return cls._read(folder)
        except DAMAGED as error:
            raise damaged(folder, error) from error

    @classmethod
    def _read(cls, folder: Path) -> "UniversalSAE":
        """As `from_pretrained`; what is damaged raises what it happens to."""
        config = read_json(folder / CONFIG)
        if (version := config.get("format")) != FORMAT_VERSION:
            raise UserError(
                f"The SAE in '{folder}' has format {version}, this version reads {FORMAT_VERSION}; "
                "run `dvc repro train` to train it anew."
            )
        coarse = config.get("levels", [])[:-1]
        sae = cls(config["widths"], config["concepts"], config["k"], config["about"], coarse)
        weights = (folder / WEIGHTS).read_bytes()
        if (found := hashlib.sha256(weights).hexdigest()) != config["sha256"]:
            raise ValueError(f"{WEIGHTS} has SHA-256 {found[:12]}..., {CONFIG} says {config['sha256'][:12]}...")
        sae.load_state_dict(load(weights), strict=True)
        return sae.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`; the same SAE gives the same bytes."""
        folder = Path(folder)
        weights = save({name: value.cpu().contiguous() for name, value in self.state_dict().items()})
        write_output(folder / WEIGHTS, weights)
        config = {
            "format": FORMAT_VERSION,
            "k": self.k,
            "concepts": self.concepts,
            "levels": self.levels.ends,
            "widths": self.widths,
            "about": self.config,
            "sha256": hashlib.sha256(weights).hexdigest(),
            **{key: self.config[key] for key in ("method",) if key in self.config},
        }
        write_json(folder / CONFIG, config)

    def push_to_hub(
        self, name: str, card: str = "", private: bool = False, networks: str | Path | None = None
    ) -> str:
        """Write it into the repository 'user/name' of the hub; returns the address.

        card: text of its README.md (see `usae.model_card`); USER/NAME there becomes `name`. networks: folder with
        a pinned network for each model, such as data/weights, that travels with it; not needed where the weights
        come from the hub themselves.

        Raises:
            UserError: the hub refuses it, or cannot be reached.
        """
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            self.save_pretrained(folder)
            write_output(folder / "README.md", card.replace("USER/NAME", name).encode())
            for model in self.models if networks else ():
                shutil.copytree(Path(networks or "") / model, folder / "networks" / model)
            return upload(folder, name, private)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def part(self, model: str) -> StandardisedSAE:
        """One model's encoder, dictionary and statistics.

        Raises:
            UserError: the SAE does not know the model.
        """
        if model not in self.widths:
            close = difflib.get_close_matches(model, self.models, n=1)
            guess = f" Did you mean '{close[0]}'?" if close else ""
            raise UserError(f"This SAE was trained on {', '.join(self.models)}; it knows no '{model}'.{guess}")
        part = self.parts[model]
        assert isinstance(part, StandardisedSAE)
        return part

    def standardise(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Raw activations in the units the SAE works in.

        Raises:
            UserError: their width is not the model's.
        """
        if tokens.shape[-1] != self.widths.get(model, tokens.shape[-1]):
            raise UserError(
                f"Activations of '{model}' should have width {self.widths[model]}, found {tuple(tokens.shape)}."
            )
        return self.part(model).standardise(tokens)

    def pre_codes(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... c"]:
        """Pre-codes of raw activations, before ReLU and TopK; differentiable everywhere."""
        rows = self.standardise(model, tokens).flatten(0, -2)  # (tokens, width)
        pre: Tensor = self.part(model).encoder(rows)
        return pre.unflatten(0, tokens.shape[:-1]) if tokens.dim() != 2 else pre

    def encode(self, tokens: Mapping[str, Float[Tensor, "... _"]]) -> dict[str, SparseCodes]:
        """Sparse codes of raw activations, of each model from itself alone (paper eq. 1)."""
        return {model: self.levels.top_k(self.pre_codes(model, raw)) for model, raw in tokens.items()}

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """Reconstruction of `model`'s activations from anyone's codes, in standardised units (paper eq. 4)."""
        return self.part(model).gain * sparse_decode(codes, self.dictionary(model))

    def dictionary(self, model: str) -> Float[Tensor, "c d"]:
        """The concepts of `model` at unit norm."""
        return self.part(model).dictionary.unit()


def damaged(folder: str | Path, error: Exception) -> UserError:
    """What to say of an SAE whose files are not as they were written."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        f"The SAE in '{folder}' is damaged ({reason}). `dvc checkout` brings back what was trained; where "
        "that is gone, remove the folder and run `dvc repro`."
    )


ESTIMATOR: type[Estimator] = UniversalSAE  # the types are held to the protocol here
