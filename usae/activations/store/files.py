"""The files of an activation store, and what can be wrong with them."""

from dataclasses import dataclass
from pathlib import Path

from usae.common.files.sealed import TRAILER, is_sealed


@dataclass(frozen=True)
class Fault:
    """What is wrong, and the file that has to go before `extract` writes it anew (None: it is gone already)."""

    text: str
    damaged: Path | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Sealed:
    """A sealed file: what sentences call it, where it lies, how many bytes its contents have, whose it is."""

    name: str
    path: Path
    size: int
    owner: Path | None = None  # the sealed file that it belongs to, and that file's number
    number: int = 0

    @property
    def whole(self) -> bool:
        """Whether a file of the right size is there; its contents are not read."""
        try:
            return self.path.stat().st_size == self.size + TRAILER
        except (FileNotFoundError, NotADirectoryError):
            return False

    def fault(self, *, deep: bool) -> Fault | None:
        """A wrong size; with `deep`, also contents that miss their checksum, or belong to another file."""
        if not self.whole:
            damaged = self.path if self.path.is_file() else None
            actual = f"{self.path.stat().st_size} bytes" if damaged else "no file"
            text = f"{self.name} ({self.path}) should have {self.size + TRAILER} bytes, found {actual}."
            return Fault(text, damaged)
        if deep and not is_sealed(self.path, self.owner, self.number):
            other = ", or is another chunk's" if self.owner else ""
            return Fault(f"{self.name} ({self.path}) does not match its checksum{other}.", self.path)
        return None
