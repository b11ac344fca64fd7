"""Training on a GPU at the paper's sizes: steps a second by Triton's kernels and by torch; where time goes.

    python -m benchmarks.gpu [--images 32] [--seconds 5]

Three tables: each product with sparse codes by itself, in milliseconds; updates a second of three recipes from
activations that lie on the GPU, with the milliseconds that the GPU computes in a step, those that Python takes to
ask for it, and the number of kernels it asks for; and the kernels that take longest. Where asking takes longer
than computing, the GPU waits.
"""

import argparse
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.training import PRESETS, TOKENS, WIDTHS, new_sae
from usae.common.params import Kernels, TrainParams, load_params
from usae.sae.levels import Levels
from usae.sae.sparse import SparseCodes
from usae.sae.universal import UniversalSAE
from usae.training.loop.loop import LOOK_EVERY
from usae.training.loop.optimisation import Optimisation
from usae.training.loop.schedule import Schedule
from usae.training.step.choice import products_for
from usae.training.step.products import SparseProducts

WAYS: tuple[Kernels, ...] = ("torch", "auto")
PROFILED = 12  # steps
SHOWN = 25  # kernels


@dataclass(frozen=True)
class Material:
    """What the products are timed on. wide: the dictionaries side by side."""

    pre: torch.Tensor  # (n, c)
    tokens: torch.Tensor  # (n, d_i)
    wide: torch.Tensor  # (c, wide)
    slope: torch.Tensor  # (n, wide)
    levels: Levels

    @classmethod
    def drawn(cls, rows: int, sae: UniversalSAE, device: str) -> "Material":
        """Of an SAE that has not been trained."""
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        wide = sum(sae.widths.values())
        width = next(iter(sae.widths.values()))
        return cls(
            normal(rows, sae.concepts),
            normal(rows, width),
            normal(sae.concepts, wide),
            normal(rows, wide),
            sae.levels,
        )


def main() -> None:
    """Print the tables; the profile is of the first recipe, by the kernels where they run."""
    options = _options()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: there is nothing to measure.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # which products are taken, and why
    torch.set_float32_matmul_precision("high")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    sae = new_sae(options)
    rows = [torch.randn(options.images * TOKENS, width, device="cuda") for width in WIDTHS.values()]
    ways = {way: products_for(sae, lambda: rows, way, "float32") for way in WAYS}
    print_parts({type(each).__name__: each for each in ways.values()}, Material.drawn(len(rows[0]), sae, "cuda"))
    print("\n| recipe | products | steps/s | GPU ms | asking ms | kernels |\n| --- " + "| --- " * 5 + "|")
    for name, switches in PRESETS.items():
        params = load_params().train.model_copy(update=switches)
        for way in WAYS:
            figures = _figures(stepper(params, way, options, rows), options.seconds)
            print(f"| {name} | {way} | {figures} |", flush=True)
    first = load_params().train.model_copy(update=next(iter(PRESETS.values())))
    print("\n" + longest(stepper(first, "auto", options, rows)))


def print_parts(ways: dict[str, SparseProducts], material: Material) -> None:
    """Milliseconds of each product, a column for each way."""
    columns = {name: parts(products, material) for name, products in ways.items()}
    print(f"| {len(material.pre)} rows, {len(material.wide)} concepts: ms | {' | '.join(columns)} |")
    print("| --- " * (len(columns) + 1) + "|")
    for part in next(iter(columns.values())):
        print(f"| {part} | {' | '.join(f'{milliseconds(column[part]):.3f}' for column in columns.values())} |")


def parts(products: SparseProducts, on: Material) -> dict[str, Callable[[], object]]:
    """The products of a step, by name."""
    codes = products.top_k(on.levels, on.pre.relu())
    values = codes.values.clone().requires_grad_()
    decoded = products.decode(SparseCodes(codes.indices, values), on.wide)
    groups = products.groups(codes.indices, len(on.wide))
    dense = on.pre.relu()
    return {
        "ReLU and top-k": lambda: products.top_k(on.levels, dense.relu() if products.needs_relu else on.pre),
        "the k + c/2 largest": lambda: products.keep_largest(dense, on.levels.k + len(on.wide) // 2),
        "decoding": lambda: products.decode(codes, on.wide),
        "decoding in bfloat16": lambda: products.decode(codes, on.wide.bfloat16()),
        "gradient of the codes": lambda: torch.autograd.grad(decoded, values, on.slope, retain_graph=True),
        "grouping": lambda: products.groups(codes.indices, len(on.wide)),
        "gradient of the encoder": lambda: groups.sum(codes.values, on.tokens),
        "its sums": lambda: groups.sum_values(codes.values),
        "gradient of the dictionaries": lambda: groups.sum(codes.values, on.slope),
    }


def milliseconds(function: Callable[[], object], calls: int = 20) -> float:
    """Of one call, the least of several runs."""
    times = []
    for _ in range(4):
        _wait()
        started = time.perf_counter()
        for _ in range(calls):
            function()
        _wait()
        times.append((time.perf_counter() - started) / calls * 1e3)
    return min(times)


def stepper(
    params: TrainParams, way: Kernels, options: argparse.Namespace, rows: list[torch.Tensor]
) -> Callable[[int], None]:
    """A function that does an update, of which the number chooses the source."""
    torch.manual_seed(0)
    sae = new_sae(options)
    products = products_for(sae, lambda: rows, way, params.precision)
    engine = Optimisation(sae, params, Schedule(3e-4, 1e-6, 10, 10_000), products=products)
    return lambda number: engine.step({sae.models[number % len(sae.models)]: rows}) and None


def _figures(step: Callable[[int], None], seconds: float) -> str:
    """Steps a second; of one step: milliseconds of the GPU and of asking, and kernels."""
    asking = 0.0
    for number in range(2 * PROFILED):
        started = time.perf_counter()
        step(number)
        asking += (time.perf_counter() - started) * (number >= PROFILED)  # the first ones compile
        _wait()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for number in range(LOOK_EVERY):
            step(number)
        _wait()  # as training does
        done += LOOK_EVERY
    rate = done / (time.perf_counter() - started)
    events = _profiled(step)
    busy = sum(event.self_device_time_total for event in events) / PROFILED / 1e3
    kernels = sum(event.count for event in events) // PROFILED
    return f"{rate:.0f} | {busy:.2f} | {asking / PROFILED * 1e3:.2f} | {kernels}"


def longest(step: Callable[[int], None]) -> str:
    """The kernels that take most of a step."""
    events = sorted(_profiled(step), key=lambda event: -event.self_device_time_total)[:SHOWN]
    lines = [
        f"| {event.self_device_time_total / PROFILED / 1e3:.3f} | {event.count // PROFILED} | {event.key[:90]} |"
        for event in events
    ]
    return "\n".join(["| ms a step | calls | kernel |", "| --- | --- | --- |", *lines])


def _profiled(step: Callable[[int], None]) -> list[torch.autograd.profiler_util.FunctionEventAvg]:
    """Everything that the GPU did in a few steps."""
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        for number in range(PROFILED):
            step(number)
        _wait()
    return [event for event in record.key_averages() if event.self_device_time_total > 0]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=32, help="a batch")
    parser.add_argument("--seconds", type=float, default=5, help="for each recipe and way")
    parser.set_defaults(device="cuda")
    return parser.parse_args()


if __name__ == "__main__":
    main()
