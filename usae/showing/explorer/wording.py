"""Numbers as the page writes them; `web/words.js` has the same rules (stage `report`)."""

import math
import re

from markupsafe import Markup, escape

from usae.showing.figures.theme import MISSING, percent


def number(value: float) -> str:
    """Two significant digits, all of whole numbers and from 100 on: 0.01234 -> '0.012'; NaN -> a dash."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{float(f'{value:.2g}'):g}"


def decimals(value: float) -> str:
    """Two decimals, or a dash."""
    return f"{value:.2f}" if math.isfinite(value) else MISSING


def share(value: float) -> str:
    """0.314 -> '31 %', NaN -> a dash."""
    return percent(value) if math.isfinite(value) else MISSING


def quoted(text: str) -> Markup:
    """`a` in a sentence as code; no space before a percent sign may break a line."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text.replace(" %", "\u00a0%")))))
