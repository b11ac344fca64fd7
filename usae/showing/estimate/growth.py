"""Seconds as they grow with the images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """Seconds as they grow with images: `fixed`, and for each image."""

    fixed: float
    image: float

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float]) -> "Growth":
        """Of two (images, seconds)."""
        slope = max(0.0, (many[1] - few[1]) / max(1, many[0] - few[0]))
        return cls(max(0.0, few[1] - slope * few[0]), slope)

    def at(self, images: float) -> float:
        """Seconds of so many."""
        return self.fixed + self.image * images
