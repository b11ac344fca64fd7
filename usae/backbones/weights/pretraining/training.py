"""The training loop that the three objectives share: AdamW, warm-up, cosine, one seed."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from usae.backbones.weights.pretraining.architectures import ObjectiveName, width_of
from usae.backbones.weights.pretraining.distilled import Distilled
from usae.backbones.weights.pretraining.language import Language
from usae.backbones.weights.pretraining.scenes import Scenes, draw_scenes
from usae.backbones.weights.pretraining.supervised import Supervised
from usae.common.runtime.progress import progress

Task = Supervised | Distilled | Language

TASKS: dict[ObjectiveName, Callable[[nn.Module, int, Scenes], Task]] = {
    "supervised": Supervised,
    "distilled": Distilled,
    "language": Language,
}
STREAM = 1_000_003
WEIGHT_DECAY = 0.05
WARMUP = 0.05
LONGEST_GRADIENT = 1.0


def pretrain(
    objective: ObjectiveName,
    backbone: nn.Module,
    *,
    seed: int,
    scenes: int,
    epochs: int,
    batch: int = 64,
    learning_rate: float = 1e-3,
    losses: list[float] | None = None,
) -> nn.Module:
    """Trains `backbone` in place on `scenes` generated scenes, each shown `epochs` times, and returns it.

    Equal arguments give equal weights on one kind of CPU and one thread count. The scenes' stream differs
    from that of any small seed. `losses`, if given, receives the loss of every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = TASKS[objective](backbone, width_of(backbone), draw_scenes(STREAM + seed, scenes)).train()
        optimiser = torch.optim.AdamW(_groups(task), lr=learning_rate)
        steps = epochs * (scenes // batch)
        bar = progress(
            _batches(scenes, epochs, batch), total=steps, description=f"pretrain {objective}", unit="step"
        )
        for step, images in enumerate(bar):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * _schedule(step / steps)
            loss = _step(task, optimiser, images)
            task.after_step((step + 1) / steps)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if losses is not None:
                losses.append(loss)
    return backbone.eval()


def _step(task: Task, optimiser: torch.optim.Optimizer, images: Tensor) -> float:
    loss = task(images)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(task.parameters(), LONGEST_GRADIENT)
    optimiser.step()
    return float(loss.detach())


def _batches(scenes: int, epochs: int, batch: int) -> Iterator[Tensor]:
    """Every epoch in an order of its own; what does not fill a batch is left out."""
    for _ in range(epochs):
        order = torch.randperm(scenes)
        yield from order[: scenes // batch * batch].view(-1, batch)


def _schedule(share: float) -> float:
    """Linear warm-up, then a cosine down to zero."""
    if share < WARMUP:
        return (share + 1e-3) / (WARMUP + 1e-3)
    return 0.5 * (1.0 + math.cos(math.pi * (share - WARMUP) / (1.0 - WARMUP)))


def _groups(task: nn.Module) -> list[dict[str, object]]:
    """Matrices decay, biases, norms and scalars do not."""
    learned = [parameter for parameter in task.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
