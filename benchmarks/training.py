"""CPU-seconds (or GPU steps per second) of one training step at the paper's sizes, beside the authors' code.

    python -m benchmarks.training [--official PATH] [--device cuda] [--only NAME]

PATH is a checkout of YorkUCVIL/UniversalSAE (with what it imports installed: einops, scikit-learn, scikit-image,
opencv-python-headless). Its own training function runs then, unchanged, on one batch a call; its logging service,
progress bar and checkpoints are switched off. Without it, `reference` is the same step written literally.
All run in one process, in turn, on the same activations; a round is one step with each model as the source.
"""

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from usae.backbones.networks.timm_import import timm  # noqa: F401 - the authors' code imports it, and it needs what this prepares
from usae.common.params import TrainParams, load_params
from usae.common.runtime.device import keep_freed_memory
from usae.sae.universal import UniversalSAE
from usae.training.loop.optimisation import Optimisation
from usae.training.loop.schedule import Schedule
from usae.training.step.reference import StepRecipe, reference_step

WIDTHS = {"vit": 768, "dinov2": 384, "siglip": 768}
CONCEPTS, K, TOKENS = 6144, 32, 196
OFFICIAL = {"update": "source", "aux": "multi_topk", "schedule": "per_model", "loss": "l1", "gain": "unit"}
PRESETS: dict[str, dict[str, Any]] = {
    "official switches, float32": {**OFFICIAL, "precision": "float32"},
    "official switches, mixed": {**OFFICIAL, "precision": "mixed"},
    "default recipe": {},
}

Step = Callable[[str], None]


def main() -> None:
    """Print each round, then medians and ratios, and the peak memory of the process."""
    options = _options()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    torch.set_float32_matmul_precision("high" if options.device == "cuda" else "highest")
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randn(options.images * TOKENS, w, generator=generator).to(options.device) for w in WIDTHS.values()
    ]
    steps = {name: step for name, step in candidates(options, rows).items() if options.only in (None, name)}
    if options.device == "cuda":
        for name, step in steps.items():
            print(f"{name:28s} {steps_per_second(step, options.rounds):7.1f} steps/s", flush=True)
    else:
        compare(steps, options.rounds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak memory of the process: {peak:.2f} GiB")


def candidates(options: argparse.Namespace, rows: list[torch.Tensor]) -> dict[str, Step]:
    """The steps that are compared, each with an SAE of its own."""
    steps: dict[str, Step] = {}
    if options.official:
        steps["authors"] = authors_step(options, rows)
    elif options.reference or options.only == "reference":
        steps["reference"] = literal_step(options, rows)
    for name, switches in PRESETS.items():
        steps[name] = our_step(load_params().train.model_copy(update=switches), options, rows)
    return steps


def our_step(params: TrainParams, options: argparse.Namespace, rows: list[torch.Tensor]) -> Step:
    """An update by the engine: loss, gradients, clipping, AdamW."""
    torch.manual_seed(0)
    engine = Optimisation(new_sae(options), params, Schedule(3e-4, 1e-6, 10, 10_000))

    def step(source: str) -> None:
        engine.step({source: rows})

    return step


def literal_step(options: argparse.Namespace, rows: list[torch.Tensor]) -> Step:
    """The authors' step as `usae.training.step.reference` writes it, with their optimiser."""
    sae = new_sae(options).train()
    optimisers = {m: torch.optim.AdamW(sae.part(m).parameters(), lr=3e-4, weight_decay=1e-5) for m in WIDTHS}

    def step(source: str) -> None:
        reference_step(sae, {source: rows}, StepRecipe())
        for model in WIDTHS:
            torch.nn.utils.clip_grad_norm_(sae.part(model).parameters(), 1.0)
        optimisers[source].step()
        sae.zero_grad()

    return step


def authors_step(options: argparse.Namespace, rows: list[torch.Tensor]) -> Step:
    """`train_cross_prediction_saes` of the checkout, on one batch."""
    quiet = SimpleNamespace(init=lambda **_: None, log=lambda *_: None, finish=lambda: None)
    sys.modules["wandb"] = quiet  # type: ignore[assignment]
    sys.path.insert(0, str(options.official))
    import matplotlib.pyplot as plt

    plt.cm.get_cmap = plt.get_cmap  # type: ignore[attr-defined]  # its place before matplotlib 3.9
    from overcomplete.sae import CosineScheduler, TopKSAE  # type: ignore[import-not-found]
    from overcomplete.sae.losses import top_k_auxiliary_loss_L1  # type: ignore[import-not-found]
    from universal_sae import train as theirs  # type: ignore[import-not-found]

    theirs.save_checkpoint = lambda **_: None
    theirs.tqdm = lambda batches, **_: batches
    torch.manual_seed(0)
    settings = {"n_components": CONCEPTS, "top_k": K, "encoder_module": "mlp_bn_1", "device": options.device}
    saes = {model: TopKSAE(input_shape=width, **settings) for model, width in WIDTHS.items()}
    optimisers = {m: torch.optim.AdamW(sae.parameters(), lr=3e-4, weight_decay=1e-5) for m, sae in saes.items()}
    schedules = {
        m: CosineScheduler(o, 3e-4, 1e-6, total_iters=10_000, warmup_iters=10, start_warmup_value=1e-6)
        for m, o in optimisers.items()
    }
    batch = {m: tokens.unflatten(0, (options.images, TOKENS)) for m, tokens in zip(WIDTHS, rows, strict=True)}

    def step(source: str) -> None:
        number = list(WIDTHS).index(source)
        theirs.random = SimpleNamespace(seed=lambda _: None, randint=lambda *_: number)
        zoo: dict[str, dict[str, str]] = {model: {} for model in WIDTHS}
        theirs.train_cross_prediction_saes(
            saes,
            [(batch, None)],
            top_k_auxiliary_loss_L1,
            optimisers,
            schedules,
            zoo,
            nb_epochs=1,
            monitoring=0,
            device=options.device,
        )

    return step


def new_sae(options: argparse.Namespace) -> UniversalSAE:
    """A fresh SAE of the paper's sizes."""
    return UniversalSAE(WIDTHS, CONCEPTS, K).to(options.device)


def compare(steps: dict[str, Step], rounds: int) -> None:
    """CPU-seconds and wall seconds a step; the first round warms up and does not count."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for source in WIDTHS:
                step(source)
            found = ((time.process_time() - cpu) / len(WIDTHS), (time.perf_counter() - wall) / len(WIDTHS))
            print(f"round {number}  {name:28s} {found[0]:6.2f} CPU-s  {found[1]:6.2f} s a step", flush=True)
            if number:
                spent[name].append(found)
    first = next(iter(steps))
    for name, figures in spent.items():
        cpu, wall = (statistics.median(column) for column in zip(*figures, strict=True))
        ratio = statistics.median(a[0] / b[0] for a, b in zip(spent[first], figures, strict=True))
        print(f"median   {name:28s} {cpu:6.2f} CPU-s  {wall:6.2f} s a step, {ratio:.1f}x {first}")
    print(f"load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads, torch {torch.__version__}")


def steps_per_second(step: Step, rounds: int) -> float:
    """On the GPU, from activations that lie there."""
    for source in WIDTHS:
        step(source)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds * 20):
        for source in WIDTHS:
            step(source)
    torch.cuda.synchronize()
    return rounds * 20 * len(WIDTHS) / (time.perf_counter() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--official", type=Path, help="checkout of the authors' code")
    parser.add_argument("--reference", action="store_true", help="time the literal step as well")
    parser.add_argument("--only", help="one of the names that are printed")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--images", type=int, default=32, help="a batch")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
