"""What can happen to files while nobody looks: each function changes one file (or two) below a world."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

Damage = Callable[[Path, np.random.Generator], list[Path]]  # a file, chance -> the files that are changed


def flip(file: Path, rng: np.random.Generator) -> list[Path]:
    """One bit."""
    content = bytearray(file.read_bytes())
    bit = int(rng.integers(8 * len(content)))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    return [file]


def truncate(file: Path, rng: np.random.Generator) -> list[Path]:
    """Anything from nothing to all but the last byte."""
    file.write_bytes(file.read_bytes()[: int(rng.integers(file.stat().st_size))])
    return [file]


def overwrite(file: Path, rng: np.random.Generator) -> list[Path]:
    """Other bytes in a stretch of the file."""
    content = bytearray(file.read_bytes())
    start = int(rng.integers(len(content)))
    stop = min(len(content), start + int(rng.integers(1, 4097)))
    content[start:stop] = rng.bytes(stop - start)
    file.write_bytes(content)
    return [file]


def remove(file: Path, _: np.random.Generator) -> list[Path]:
    """Gone."""
    file.unlink()
    return [file]


def swap(file: Path, rng: np.random.Generator) -> list[Path]:
    """With another one of the same size, each whole by itself."""
    others = [other for other in alike(file) if other.read_bytes() != file.read_bytes()]
    if not others:
        return flip(file, rng)
    other = others[int(rng.integers(len(others)))]
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two), other.write_bytes(one)
    return [file, other]


def alike(file: Path) -> list[Path]:
    """Other files of the same size and ending that lie up to three folders around."""
    around = file.parents[2].rglob(f"*{file.suffix}")
    size = file.stat().st_size
    return sorted(other for other in around if other.is_file() and other != file and other.stat().st_size == size)


def kind_of(name: str) -> str:
    """'data/activations/one-train-0123/c/3/0/0' -> 'data/activations/c/0': numbers make no kind of their own."""
    parts = [part for part in Path(name).parts if not any(digit in part for digit in "0123456789")]
    inside = [part for part in Path(name).parts if part in ("c", "moments", "before")]
    return "/".join([*parts[:2], *inside, Path(name).suffix or Path(name).name])


def chosen(names: list[str], rng: np.random.Generator) -> str | None:
    """One file: first a kind, then one of that kind; None where there is none."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(names):
        kinds.setdefault(kind_of(name), []).append(name)
    if not kinds:
        return None
    of_kind = kinds[sorted(kinds)[int(rng.integers(len(kinds)))]]
    return of_kind[int(rng.integers(len(of_kind)))]


DAMAGES: dict[str, Damage] = {
    "flip": flip,
    "truncate": truncate,
    "overwrite": overwrite,
    "remove": remove,
    "swap": swap,
}
