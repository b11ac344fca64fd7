"""Data as the scripts of a page read it: JSON, files beside the page, images as text (`report`, `maximise`).

A file beside a page is a script that calls `receive(name, content)`: a page opened from a disk may load scripts,
and nothing else. Numbers have nine significant digits; undefined ones are null, never NaN.
"""

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from usae.common.files.whole import write_output

DIGITS = 9  # more than are shown, so that nothing is rounded twice
QUALITY = 72  # of WebP

Json = dict[str, Any]


def plain(values: pd.Series) -> list[Any]:
    """A column as JSON holds it: null for what is not defined, nine significant digits."""
    return [plain_value(value) for value in values.astype(object)]


def plain_value(value: Any) -> Any:
    """One value as JSON holds it."""
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float | np.floating) else str(value)


def script_text(payload: Json) -> str:
    """The JSON as it may stand inside a script element; NaN is refused."""
    text = json.dumps(payload, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def write_beside(path: Path, content: Json) -> None:
    """A file beside a page, `path` with its ending: it hands `content` over under the file's name."""
    write_output(path, f'receive("{path.stem}",{script_text(content)});\n'.encode())


def webp(image: Image.Image, quality: int = QUALITY) -> str:
    """An image as a WebP data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=quality)
    return data_uri(buffer.getvalue(), "image/webp")


def data_uri(content: bytes, kind: str) -> str:
    """Content as a URI that holds all of it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
