"""Images per second of extraction, beside those of the bare network on pixels that are already decoded.

    python -m benchmarks.extraction --images FOLDER [--models resnet18 vit_tiny_patch16_224] [--device cuda]

Both run in one process, in turn, on the same images in the same batches; weights are random. Extraction decodes,
resizes, computes, checks, writes and syncs its store; the bare network only computes. Without --images, JPEGs of
500 x 375 pixels are generated.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from usae.activations.extraction.extract import create_store
from usae.activations.extraction.extractor import Extraction, Extractor
from usae.activations.extraction.joint import Pass
from usae.backbones.networks.backbone import Backbone, pin
from usae.backbones.networks.building import build
from usae.common.params import BackboneParams, ExtractParams, ImagesParams, RuntimeParams
from usae.images.sources.writing import write_images

MODELS = ("mobilenetv2_100", "resnet18", "vit_tiny_patch16_224")


def main() -> None:
    """Print one line a pair and the medians, for each model."""
    options = options_of(__doc__, MODELS, count=384, pairs=5, threads=2, chunk=128)
    torch.set_num_threads(options.threads)
    with extractions(options) as found:
        for extraction in found:
            compare(extraction.model, extraction, options)


@contextmanager
def extractions(options: argparse.Namespace) -> Iterator[Iterator[Extraction]]:
    """How each of the networks is read, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = options.images or generated_photographs(folder / "photographs", options.count)
        images = ImagesParams(source="folder", path=str(source), train=options.count, val=1, val_share=0.01)
        write_images(folder / "images", images, seed=0, workers=options.threads)
        yield (extraction(model, source, folder, options) for model in options.models)


def compare(model: str, extraction: Extraction, options: argparse.Namespace) -> None:
    """Time pairs of bare forward pass and extraction, the first of a pair in turn."""
    extractor = Extractor.load(extraction, torch.device(options.device))
    images = len(extractor.images["train"])
    batches = [
        batch.to(options.device).float().div_(255)
        for batch in extractor.pixels("train", images).split(options.batch)
    ]  # each (batch, 3, size, size)
    bare_forward(extractor.forward.backbone, batches[:1])
    runs: dict[str, list[float]] = {"bare": [], "extraction": []}
    for pair in range(options.pairs):
        store = create_store(_elsewhere(extractor, pair), "train")
        work = extractor.left("train", store)
        both: dict[str, Callable[[], object]] = {
            "bare": lambda: bare_forward(extractor.forward.backbone, batches),
            "extraction": lambda work=work: list(Pass([extractor], [work]).run()),  # type: ignore[misc]
        }
        measured = {name: timed(both[name]) for name in (both if pair % 2 else reversed(both))}
        for name, (seconds, _) in measured.items():
            runs[name].append(images / seconds)
        print(
            f"{model}  load {os.getloadavg()[0]:.1f}  "
            + "  ".join(
                f"{n} {images / s:.1f} images/s ({c / images * 1e3:.1f} CPU-ms)" for n, (s, c) in measured.items()
            )
            + f"  ratio {runs['extraction'][-1] / runs['bare'][-1]:.3f}",
            flush=True,
        )
    ratios = [extraction / bare for bare, extraction in zip(runs["bare"], runs["extraction"], strict=True)]
    medians = {name: statistics.median(rates) for name, rates in runs.items()}
    print(
        f"{model}  median of {options.pairs}: bare {medians['bare']:.1f}, extraction {medians['extraction']:.1f} "
        f"images/s, ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})\n",
        flush=True,
    )


def bare_forward(backbone: Backbone, batches: list[torch.Tensor]) -> None:
    """The network alone, on pixels in memory."""
    with torch.inference_mode():
        for batch in batches:
            backbone.tokens(batch)
        if batches[0].is_cuda:
            torch.cuda.synchronize()


def extraction(model: str, source: Path, folder: Path, options: argparse.Namespace) -> Extraction:
    """Random weights of a timm model, pinned; 14 x 14 tokens for ViTs, 7 x 7 for other networks."""
    torch.manual_seed(0)
    params = BackboneParams(timm=model, weights="random")
    pin(params, folder / model, build(params))
    return Extraction(
        model=model,
        weights=folder / model,
        layer=-1,
        norm=True,
        images=folder / "images",
        root=str(source),
        params=ExtractParams(
            grid=14 if "vit" in model else 7,
            fit="squash",
            dtype="float16",
            chunk_images=options.chunk,
            statistics_images=None,
            statistics="after",
            precision="float32",
        ),
        runtime=RuntimeParams(
            device=options.device,
            threads=options.threads,
            batch_images=options.batch,
            workers=options.workers,
            store=str(folder / "stores"),
            resident="auto",
            kernels="auto",
            processes=1,
            one_pass="none",
            dask=None,
            checkpoint_minutes=10,
            tracker=None,
        ),
    )


def generated_photographs(folder: Path, count: int) -> Path:
    """JPEGs that cost about as much to decode as photographs: smooth noise of 500 x 375 pixels."""
    folder.mkdir(parents=True)
    for number in range(count + 1):
        coarse = np.random.default_rng(number).integers(0, 255, (47, 63, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(
            folder / f"{number:05d}.jpg", quality=90
        )
    return folder


def _elsewhere(extractor: Extractor, pair: int) -> Extractor:
    """The same, with a store of its own."""
    runtime = extractor.extraction.runtime
    moved = runtime.model_copy(update={"store": f"{runtime.store}/{pair}"})
    return replace(extractor, extraction=replace(extractor.extraction, runtime=moved))


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    started, spent = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started, time.process_time() - spent


def options_of(
    text: str | None, models: Sequence[str], *, count: int, pairs: int, threads: int, chunk: int
) -> argparse.Namespace:
    """What the command line says. text: of the module."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0] if text else None)
    parser.add_argument("--images", type=Path, help="folder of images; generated when left out")
    parser.add_argument("--models", nargs="+", default=models, help="timm names")
    parser.add_argument("--count", type=int, default=count, help="images per run")
    parser.add_argument("--pairs", type=int, default=pairs)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=threads, help="of torch")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode")
    parser.add_argument("--batch", type=int, default=32, help="images per forward pass")
    parser.add_argument("--chunk", type=int, default=chunk, help="images per chunk file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
