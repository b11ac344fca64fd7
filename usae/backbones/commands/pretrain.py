"""Makes the shipped checkpoints, each in five to ten minutes on one core:

usae pretrain supervised --output usae/backbones/weights/shipped/supervised.safetensors
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from usae.backbones.weights.pretraining import ARCHITECTURES, RECIPES, pretrain, save_half, untrained


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one backbone by its recipe and write it."""
    parser = argparse.ArgumentParser(prog="usae pretrain", description="Train a demo backbone.")
    parser.add_argument("objective", choices=tuple(ARCHITECTURES))
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write, float16")
    parser.add_argument("--seed", type=int, default=0, help="initial weights, scenes and their order")
    parser.add_argument("--scenes", type=int, help="how many scenes are drawn (default: the recipe's)")
    parser.add_argument("--epochs", type=int, help="how often each is shown (default: the recipe's)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = RECIPES[given.objective]
    backbone = pretrain(
        given.objective,
        untrained(given.objective, given.seed),
        seed=given.seed,
        scenes=given.scenes or recipe.scenes,
        epochs=given.epochs or recipe.epochs,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate,
    )
    save_half(backbone, given.output)
    return 0
