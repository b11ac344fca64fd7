"""Files that are there whole or not at all, and what is said when a disk does not take them.

Any number of processes may write the same path: each writes a partial file of its own and renames it.
"""

import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from usae.common.errors import UserError

PARTIAL = ".partial"
ATTEMPTS = 5  # at one file; another process that starts on the same store sweeps partial files away
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_whole(path: Path, *contents: bytes | memoryview) -> None:
    """Write `contents`, one behind the other, so that `path` is there whole or not at all, also after a power cut.

    Raises:
        UserError: the disk does not take it; nothing is left behind.
    """
    for _ in range(ATTEMPTS):
        partial = _partial(path, contents)
        try:
            partial.replace(path)
        except FileNotFoundError:  # swept away by another process: write it again
            continue
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _refusal(path, contents, error) from error
        return
    raise UserError(f"{path} could not be written: its partial file disappeared {ATTEMPTS} times in a row.")


def write_output(path: Path, *contents: bytes | memoryview) -> None:
    """As `write_whole`, for an output of a stage; what a killed run was writing there goes."""
    write_whole(path, *contents)
    for partial in path.parent.glob(f"{glob.escape(path.name)}.*{PARTIAL}"):
        if not _runs(partial.name.removeprefix(f"{path.name}.").split("-")[0]):
            partial.unlink(missing_ok=True)


@contextmanager
def below(folder: Path) -> Iterator[None]:
    """An error of the disk in here that names no file names `folder`: a library wrote there."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(folder)
        raise


def disk_sentence(error: OSError) -> str:
    """What to say of an error of the system that no `write_whole` met: where, what there is, what to do."""
    where = Path(error.filename) if isinstance(error.filename, str) else Path()
    named = f" ({error.filename})" if error.filename else ""
    return (
        f"{error.strerror or error}{named}; {size_text(free_bytes(where.absolute()))} are free there. "
        f"{_remedy(error)} and run the same command again: what is finished is kept."
    )


def free_bytes(path: Path) -> int:
    """Room left on the disk of `path`, which need not exist yet."""
    while not os.path.exists(path):  # Path.exists raises where a name is too long
        path = path.parent
    return shutil.disk_usage(path).free


def size_text(size: int) -> str:
    """38535168 -> '38.5MB'."""
    return tqdm.format_sizeof(size, "B")


def _partial(path: Path, contents: tuple[bytes | memoryview, ...]) -> Path:
    partial = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for content in contents:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, FileNotFoundError):  # the folder was removed meanwhile: the caller may know more
            raise
        raise _refusal(path, contents, error) from error
    return partial


def _runs(process: str) -> bool:
    """Whether a process of that number is there."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _refusal(path: Path, contents: tuple[bytes | memoryview, ...], error: OSError) -> UserError:
    """What was needed, what there is, and what to do."""
    need, have = size_text(sum(map(len, contents))), size_text(free_bytes(path.parent))
    return UserError(
        f"{path} could not be written ({error.strerror}): it needs {need}, {have} are free there. "
        f"{_remedy(error)} and run the same command again: what is finished is kept."
    )


def _remedy(error: OSError) -> str:
    if error.errno in NO_ROOM:
        return "Make room, or move the stores (`runtime.store` or $USAE_STORE),"
    return "Is the disk read-only, or a file where a folder should be? See to it that files can be written there"
