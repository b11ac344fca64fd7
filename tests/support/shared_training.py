"""Training in two processes: `python -m tests.support.shared_training FOLDER`.

Writes what each process ended with; run by test_shared_training.py, which compares it with one process.
"""

import sys
from pathlib import Path

import torch

from tests.support.pairs import codes, pair
from tests.support.worlds import RECIPE, two_models
from usae.common.runtime.ranks import Ranks
from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import RunOptions, train
from usae.training.step.fast import FastStep
from usae.training.step.reference import StepRecipe

WIDTHS = {"a": 12, "b": 7}
ROWS = 37  # not the same number in every process


def batch() -> list[torch.Tensor]:
    """Rows of both models, of float64."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(ROWS, width, dtype=torch.float64, generator=generator) for width in WIDTHS.values()]


def gradients(recipe: StepRecipe, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Loss, running statistics and every gradient of one step on this process's share of the rows."""
    torch.manual_seed(1)
    sae = UniversalSAE(WIDTHS, 20, 4).double().train()
    dead = torch.arange(20) % 3 == 0
    rows = [values[ranks.rank :: ranks.size] for values in batch()]
    loss = FastStep(sae, recipe, ranks)({"a": rows}, {"a": dead})
    found = {name: p.grad for name, p in sae.named_parameters() if p.grad is not None}
    return {"loss": loss.total, "parts": loss.reconstruction, **found, **dict(sae.named_buffers())}


def main(folder: Path) -> None:
    """A step of every objective and auxiliary term, and a short run."""
    torch.set_num_threads(1)
    ranks = Ranks.current()
    steps = {
        f"{loss}-{aux}": gradients(StepRecipe(loss=loss, update="all", aux=aux, aux_codes=3), ranks)
        for loss in ("l1", "l2", "frobenius")
        for aux in ("none", "multi_topk", "dead")
    }
    manifests, data = two_models(folder / f"rank{ranks.rank}")
    running = RunOptions(torch.device("cpu"))
    trained = train({"usae": Variant(4, 0)}, manifests, data, RECIPE, running, seed=0, steps=60)["usae"]
    run = {"loss": torch.tensor(trained.log["loss"].to_numpy()), **trained.sae.state_dict()}
    torch.save({"steps": steps, "run": run}, folder / f"{ranks.size}-{ranks.rank}.pt")


if __name__ == "__main__":
    sys.exit(codes(pair(main, Path(sys.argv[1]))) != [0, 0])
