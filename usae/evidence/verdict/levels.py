"""What table `verdict` says as a whole (stages `measure` and `report`)."""

import pandas as pd

READABLE, CAUTION, UNREADABLE = LEVELS = ("readable", "with caution", "not readable")
WORDS = dict(zip(LEVELS, ("Readable", "Readable with caution", "Not readable"), strict=True))


def level_of(verdict: pd.DataFrame) -> str:
    """The worst level of all answers."""
    return max(verdict["level"], key=LEVELS.index, default=READABLE)


def reasons(verdict: pd.DataFrame) -> pd.DataFrame:
    """The answers that miss their bar, the worst first, those that nobody asked for last."""
    missed = verdict[verdict["level"] != READABLE]
    order = [
        (-LEVELS.index(level), not asked) for level, asked in zip(missed["level"], missed["asked"], strict=True)
    ]
    return missed.iloc[sorted(range(len(order)), key=order.__getitem__)]


def is_readable(verdict: pd.DataFrame) -> bool:
    """Whether counts may be shown. A run without a verdict has not been refused."""
    return verdict.empty or level_of(verdict) != UNREADABLE


def verdict_line(verdict: pd.DataFrame) -> str:
    """'Not readable: ...', for a log: the word, the reasons that decide it, and what was not asked."""
    if verdict.empty:
        return "No verdict: `dvc repro measure` reaches one"
    level = level_of(verdict)
    if level == READABLE:
        return f"{WORDS[level]}: {len(verdict)} of {len(verdict)} bars are met"
    decisive = verdict[verdict["level"] == level]
    asked = decisive["asked"].astype(bool)
    parts = decisive.loc[asked, "reason"].tolist()
    if not asked.all():
        parts.append(f"not asked: {', '.join(decisive.loc[~asked, 'question'])}")
    return f"{WORDS[level]}: {'; '.join(parts)}"
