"""Does the fast step train the same SAE as the step written literally? Held-out R2 of both after a whole run.

    python -m benchmarks.agreement

Works on the stores of the run in this checkout (`dvc repro extract` first) with the authors' recipe: every source,
batch and first weight is the same in both. Prints both matrices (channel means) and the largest difference.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.recipes import BASE, BATCH_IMAGES, CPU, OFFICIAL, evaluated, matrix_of
from usae.activations.sampling import Loader, PairedActivations, Plan, open_paired
from usae.activations.store import store_root
from usae.activations.store.manifests import load_manifests
from usae.common.params import load_params
from usae.common.runtime.progress import progress
from usae.common.variant import Variant
from usae.sae.universal import UniversalSAE
from usae.training.loop.optimisation import Optimisation
from usae.training.loop.schedule import Schedule
from usae.training.loop.universal import draw_source
from usae.training.start import new_sae
from usae.training.step.fast import FastStep
from usae.training.step.reference import StepLoss, StepRecipe, reference_step

SIZES = {"dictionary": 512, "epochs": 8, "batch_images": BATCH_IMAGES}


class LiteralStep(FastStep):
    """`reference_step` in the place of the fast one; decoders that do not learn lose their gradients."""

    def __call__(
        self, sources: Mapping[str, Sequence[Tensor]], dead: Mapping[str, Tensor] | None = None
    ) -> StepLoss:
        """Loss of standardised rows; leaves gradients in `.grad` of everything that learns."""
        with torch.enable_grad():
            loss = reference_step(self.sae, sources, self.recipe, dead)
        for model in self.sae.models:
            if model not in sources:
                self.sae.part(model).zero_grad(set_to_none=True)
        return loss


def main() -> None:
    """Train both and compare."""
    params = load_params()
    manifests = load_manifests(Path("data/manifests"), params.models)
    root = store_root(params.runtime.store)
    data = open_paired(manifests, root)
    recipe = params.train.model_copy(update={**BASE, **OFFICIAL, **SIZES})
    val = PairedActivations({model: manifest.open("val", root) for model, manifest in manifests.items()})
    matrices = []
    for kind in (FastStep, LiteralStep):
        sae = new_sae(manifests, data, recipe, Variant(params.k, params.seed))
        loader = Loader(data, Plan(recipe.batch_images, params.seed), CPU)
        steps, warmup = recipe.epochs * loader.steps_per_epoch, loader.steps_per_epoch
        schedule = Schedule(recipe.learning_rate, recipe.final_learning_rate, warmup, steps)
        engine = Optimisation(sae, recipe, schedule)
        engine.compute = kind(sae, StepRecipe())
        run(engine, loader, params.seed, steps)
        matrices.append(matrix_of(evaluated(sae.eval(), val, params.measure.threshold)[0], list(val.models)))
        print(f"{kind.__name__}, {steps} steps, held-out R2 (rows: sources {', '.join(sae.models)})")
        print(np.array2string(matrices[-1], precision=4))
    print(f"largest difference {np.abs(matrices[0] - matrices[1]).max():.4f}")


def run(engine: Optimisation, loader: Loader, seed: int, steps: int) -> None:
    """All steps."""
    sae: UniversalSAE = engine.sae
    for batch in progress(loader.batches(0, steps), total=steps, description="train", unit="step"):
        rows = [sae.part(model).standardise(raw) for model, raw in batch.activations.items()]
        engine.step({draw_source(seed, batch.step, sae.models): rows})


if __name__ == "__main__":
    main()
