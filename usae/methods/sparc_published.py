"""SPARC by its authors' recipe (Nasiri-Sarvi et al. 2025), on this run's tokens.

Every token counts alike: errors are divided by the token's power (`nmse`). Batches of 256 tokens, Adam at a
constant rate, decoder rows back to unit norm before the gradient along them is taken out, dead latents drawn anew;
made for 50 epochs of 1.7 million images. One thing differs: the authors divide each vector by its norm. Here a
model's tokens are divided by their mean norm, or no reconstruction could be compared with an activation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from usae.common.seeds import seed_of
from usae.methods.joint.sae import CentredEncoder, FreeDictionary, SparcSAE
from usae.sae.sparse import SparseCodes, sparse_decode
from usae.training.loop.method import ALL_MODELS, Start, Update
from usae.training.start.first_weights import drawn_from
from usae.training.start.initialisation import set_statistics

BLOCK = "as published"  # of the comparison
BATCH_TOKENS = 256  # of one update; a step makes as many as its tokens take
RATE = 1e-4
CROSS_WEIGHT, AUX_WEIGHT, AUX_CODES = 1.0, 1 / 32, 64
FIRES, DEAD_AFTER = 1e-3, 1000  # codes above the one fire; steps without, after which a latent is dead
RESAMPLE_EVERY, RESAMPLED_STD = 100, 0.01


class PublishedSparc(SparcSAE):
    """Encoders of tokens less an offset that decoders add again; codes in the unit of what they add to a model."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for model, width in self.widths.items():
            part: Any = self.part(model)
            part.encoder = CentredEncoder(width, self.concepts)
            part.dictionary = FreeDictionary(width, self.concepts)

    def pre_codes(self, model: str, tokens: Float[Tensor, "... d"]) -> Float[Tensor, "... c"]:
        """In the unit of the codes."""
        return super().pre_codes(model, tokens) * self.scale()

    def decode(self, model: str, codes: SparseCodes) -> Float[Tensor, "... d"]:
        """See `Estimator`."""
        own: Any = self.part(model).dictionary
        reconstruction: Tensor = sparse_decode(codes, own.weight / self.scale()[:, None]) + own.offset
        return reconstruction

    def scale(self) -> Float[Tensor, " c"]:
        """What a code is measured in: the mean over models of a row's norm over the model's gain."""
        parts = [self.part(model) for model in self.models]
        return torch.stack([part.dictionary.weight.norm(dim=1) / part.gain for part in parts]).mean(0)


ESTIMATOR = PublishedSparc


class PublishedSparcMethod:
    """See `Method`. silent (m, c): steps since each latent fired, by model."""

    def __init__(self, sae: PublishedSparc, seed: int) -> None:
        self.sae, self.seed, self.steps = sae.train(), seed, 0
        self.silent = torch.zeros(len(sae.models), sae.concepts, dtype=torch.int64, device=sae.device)
        self.optimiser = torch.optim.Adam(self.parameters(), lr=RATE, eps=1e-8)

    def parameters(self) -> list[Tensor]:
        """All that learns: encoders and their biases, rows, and each model's offset."""
        parts: list[Any] = [self.sae.part(model) for model in self.sae.models]
        layers = [(p.encoder.linear.weight, p.encoder.linear.bias, p.dictionary.weight) for p in parts]
        return [*(each for layer in layers for each in layer), *(p.dictionary.offset for p in parts)]

    def start(self) -> PublishedSparc:
        """See `Method`."""
        return self.finished()

    def finished(self) -> PublishedSparc:
        """See `Method`: a copy whose encoders subtract what their decoders add."""
        found = type(self.sae)(
            self.sae.widths, self.sae.concepts, self.sae.k, self.sae.config, self.sae.levels.ends[:-1]
        )
        found.load_state_dict(self.sae.state_dict())
        for model in found.models:
            part: Any = found.part(model)
            part.encoder.centre.copy_(part.dictionary.offset.detach())
        return found.to(self.sae.device).eval()

    def step(self, tokens: Mapping[str, Float[Tensor, "n _"]], step: int, scored: bool) -> Update:  # noqa: ARG002
        """As many updates as the step's tokens make batches of the authors' size."""
        rows = [self.sae.part(model).standardise(tokens[model]) for model in self.sae.models]
        for batch in zip(*(own.split(BATCH_TOKENS) for own in rows), strict=True):
            loss, reconstruction = self._update(list(batch))
        norm = torch.stack([p.grad.norm() for p in self.parameters() if p.grad is not None]).norm()
        r2 = self._r2(rows) if scored else None
        return Update(ALL_MODELS, RATE, loss.detach(), reconstruction.detach(), norm, r2)

    def state(self) -> dict[str, Any]:
        """See `Method`."""
        state = {"sae": self.sae.state_dict(), "optimiser": self.optimiser.state_dict()}
        return {**state, "silent": self.silent, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Method`."""
        self.sae.load_state_dict(state["sae"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.silent.copy_(state["silent"])
        self.steps = state["steps"]

    def _update(self, rows: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One update of the authors'; its loss, and that without the auxiliary term."""
        self.optimiser.zero_grad(set_to_none=True)
        logits = [self._logits(model, own) for model, own in zip(self.sae.models, rows, strict=True)]
        chosen = torch.stack(logits).sum(0).detach().topk(self.sae.k, dim=1).indices
        codes = [own.gather(1, chosen).relu() for own in logits]
        errors = torch.stack([self._errors(rows, chosen, own) for own in codes])  # (source, target)
        aux = [self._auxiliary(place, rows[place], logits[place], chosen, z) for place, z in enumerate(codes)]
        reconstruction = total_loss(errors, CROSS_WEIGHT)
        loss = reconstruction + AUX_WEIGHT * torch.stack(aux).mean()
        loss.backward()
        self._normalise()
        self.optimiser.step()
        self.steps += 1
        self.silent = counted(self.silent, chosen, torch.stack(codes).detach())
        if self.steps % RESAMPLE_EVERY == 0:
            self._resample()
        return loss, reconstruction

    def _errors(self, rows: list[Tensor], chosen: Tensor, values: Tensor) -> Float[Tensor, " m"]:
        """Of every target, from one source's codes."""
        pairs = zip(self.sae.models, rows, strict=True)
        return torch.stack([nmse(self._decoded(model, chosen, values), own) for model, own in pairs])

    def _logits(self, model: str, rows: Tensor) -> Float[Tensor, "n c"]:
        part: Any = self.sae.part(model)
        logits: Tensor = part.encoder.linear(rows - part.dictionary.offset)
        return logits

    def _decoded(
        self, model: str, chosen: Int[Tensor, "n k"], values: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n d"]:
        part: Any = self.sae.part(model)
        rows = F.embedding_bag(chosen, part.dictionary.weight, per_sample_weights=values, mode="sum")
        decoded: Tensor = rows + part.dictionary.offset
        return decoded

    def _auxiliary(self, place: int, rows: Tensor, logits: Tensor, chosen: Tensor, values: Tensor) -> Tensor:
        """Dead latents reconstruct what the others leave; 0 where none is dead."""
        dead = self.silent[place] > DEAD_AFTER
        if not dead.any():
            return rows.new_zeros(())
        model = self.sae.models[place]
        part: Any = self.sae.part(model)
        strongest = (logits * dead).topk(min(AUX_CODES, self.sae.concepts), dim=1)
        left = rows - self._decoded(model, chosen, values).detach() + part.dictionary.offset.detach()
        return nmse(self._decoded(model, strongest.indices, strongest.values.relu()), left)

    @torch.no_grad()
    def _normalise(self) -> None:
        """Rows to unit norm, then the gradient along them out: Adam leaves the sphere by one step."""
        for model in self.sae.models:
            weight = self.sae.part(model).dictionary.weight
            weight.copy_(F.normalize(weight))
            if weight.grad is not None:
                weight.grad -= (weight.grad * weight).sum(1, keepdim=True) * weight

    @torch.no_grad()
    def _resample(self) -> None:
        """Encoders of dead latents anew; rows and Adam's moments stay."""
        draws = torch.Generator().manual_seed(seed_of(self.seed, "resampled latents of SPARC", self.steps))
        for place, model in enumerate(self.sae.models):
            dead, part = self.silent[place] > DEAD_AFTER, self.sae.part(model)
            linear: Any = part.encoder.linear
            drawn = RESAMPLED_STD * torch.randn(linear.weight.shape, generator=draws)
            linear.weight[dead] = drawn.to(linear.weight)[dead]
            linear.bias[dead] = 0
            self.silent[place][dead] = 0

    @torch.no_grad()
    def _r2(self, rows: list[Tensor]) -> Float[Tensor, "2"]:
        """Channel R2 as trained, a model from itself and from others; the target helps to choose."""
        logits = [self._logits(model, own) for model, own in zip(self.sae.models, rows, strict=True)]
        chosen = torch.stack(logits).sum(0).topk(self.sae.k, dim=1).indices
        found = []
        for own in logits:
            codes = own.gather(1, chosen).relu()
            guesses = [self._decoded(model, chosen, codes) for model in self.sae.models]
            found.append([_channel_r2(each, guess) for each, guess in zip(rows, guesses, strict=True)])
        r2 = torch.tensor(found)
        own_mean = r2.diagonal().mean()
        others = (r2.sum() - r2.diagonal().sum()) / max(r2.numel() - len(r2), 1)
        return torch.stack([own_mean, others]).to(rows[0])


def start(given: Start) -> PublishedSparcMethod:
    """See `usae.training.loop.methods`."""
    widths = {model: manifest.width for model, manifest in given.manifests.items()}
    train = given.params.model_dump() | {"levels": None}
    about = {"models": {}, "train": train, "seed": given.variant.seed, "method": given.variant.method}
    with drawn_from(given.variant.seed, "first weights of published SPARC"):
        sae = PublishedSparc(widths, given.params.dictionary, given.variant.k, about)
    for model, manifest in given.manifests.items():
        set_statistics(sae, model, manifest, given.params)
        part: Any = sae.part(model)
        norm = _mean_norm(given, sae, model)
        part.std.mul_(norm)  # tokens of mean norm 1, and codes in the unit of all methods
        part.gain.div_(norm)
        part.encoder.linear.bias.data.zero_()
        part.dictionary.weight.data.copy_(F.normalize(part.encoder.linear.weight.data))
    return PublishedSparcMethod(sae.to(given.device), given.variant.seed)


def _mean_norm(given: Start, sae: PublishedSparc, model: str) -> float:
    """Of standardised tokens of some training images."""
    rows = given.data.select([model]).rows(np.arange(min(given.data.images, 256)))[model]
    return float(sae.standardise(model, rows).norm(dim=1).mean())


def nmse(guess: Float[Tensor, "n d"], truth: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean over tokens of the squared error over the token's power: every token counts alike."""
    return ((guess - truth).square().mean(1) / truth.square().mean(1)).mean()


def total_loss(errors: Float[Tensor, "m m"], cross_weight: float) -> Float[Tensor, ""]:
    """Mean of the self errors, and of the cross errors times their weight."""
    own, models = errors.diagonal().sum(), len(errors)
    return own / models + cross_weight * (errors.sum() - own) / max(models * (models - 1), 1)


def counted(
    silent: Int[Tensor, "m c"], chosen: Int[Tensor, "n k"], codes: Float[Tensor, "m n k"]
) -> Int[Tensor, "m c"]:
    """Steps since each latent fired, after one more: 1 where a code of the batch exceeds FIRES."""
    fired = torch.zeros_like(silent)
    for own, values in zip(fired, codes, strict=True):
        own.index_add_(0, chosen.flatten(), (values > FIRES).flatten().long())
    return torch.where(fired > 0, 1, silent + 1)


def _channel_r2(truth: Tensor, guess: Tensor) -> float:
    return 1 - ((truth - guess).square().sum() / (truth - truth.mean(0)).square().sum()).item()
