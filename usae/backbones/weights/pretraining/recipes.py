"""How long and how fast each shipped backbone learns."""

from dataclasses import dataclass

from usae.backbones.weights.pretraining.architectures import ObjectiveName


@dataclass(frozen=True)
class TrainingRecipe:
    """`scenes` are drawn once and shown `epochs` times in batches of `batch`; AdamW's peak `learning_rate`."""

    scenes: int
    epochs: int
    batch: int
    learning_rate: float


RECIPES: dict[ObjectiveName, TrainingRecipe] = {
    "supervised": TrainingRecipe(scenes=12_000, epochs=4, batch=32, learning_rate=1.5e-3),
    "distilled": TrainingRecipe(scenes=12_000, epochs=3, batch=32, learning_rate=2e-3),
    "language": TrainingRecipe(scenes=12_000, epochs=5, batch=64, learning_rate=3e-3),
}
