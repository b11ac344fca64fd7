"""The page's charts: the figures' SVG files, which follow the reader's light or dark scheme (stage `report`).

A data URI is an image of its own, so the dark colours are a style sheet inside it; files in `reports/figures` stay
as they are, for papers.
"""

from pathlib import Path

from usae.showing.figures.theme import INK, MUTED, OKABE_ITO, PAPER, RULE
from usae.showing.scripts import data_uri

DARK_CARD = "#1d232b"  # --card of web/style.css
DARK = {INK: "#e8ebef", MUTED: "#a3adb8", RULE: "#333c47"} | dict(
    zip(
        OKABE_ITO,
        ("#4fa8e0", "#f08a4b", "#3cc79b", "#dd9fc3", "#efb84a", "#7cc6f2", "#c9d1da", "#d6c94a"),
        strict=True,
    )
)


def chart_uri(path: Path) -> str:
    """An SVG figure as a data URI that is dark where the page is."""
    svg = path.read_text(encoding="utf-8")
    head, tag, rest = svg.partition("<defs>")
    return data_uri(f"{head}<style>{dark_style()}</style>{tag}{rest}".encode(), "image/svg+xml")


def dark_style() -> str:
    """The theme's colours replaced on a dark page; numbers in coloured cells (white or black groups) stay."""
    rules = [
        f'[style*="{what}: {light.lower()}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
        if light != "#000000"
    ]
    rules += [f'path[style*="fill: {PAPER}"]{{fill:none!important}}']
    rules += [f'use[style*="fill: {PAPER}"]{{fill:{DARK_CARD}!important}}']  # hollow markers
    rules += [f'[style*="stroke: {PAPER}"]{{stroke:{DARK_CARD}!important}}']
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"
