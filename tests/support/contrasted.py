"""Small tables of stage `contrast`, and the funnel of them, as figures and page read them.

The run shares 28 concepts and 5 come back, its start 25 and 1; a control shares none.
"""

import numpy as np
import pandas as pd

STEPS = ("alive", "in all models", "significant", "agreement", "beyond controls", "stable")
COUNTS = {
    ("usae", False): (512, 465, 268, 42, 28, 5),
    ("usae", True): (512, 512, 229, 33, 25, 1),
    ("seed-1", False): (512, 458, 265, 42, 22),
    ("shuffled", False): (512, 498, 3, 0, 0),
    ("shuffled", True): (512, 512, 0, 0, 0),
    ("untrained-language", False): (512, 453, 43, 1, 0),
}
CONTROLS = [  # run, measure, value, null, start, adds_low, adds_high
    ("usae", "r2_cross_mean", 0.29, np.nan, 0.09, 0.199, 0.206),
    ("usae", "firing_entropy_median", 0.88, np.nan, 0.95, np.nan, np.nan),
    ("usae", "lift_median", 36.7, 15.4, 24.6, np.nan, np.nan),
    ("usae", "shared", 28, np.nan, 25, -0.025, 8),
    ("usae", "universal", 5, np.nan, 1, 4, 5),
    ("shuffled", "r2_cross_mean", 0.01, np.nan, -0.11, 0.1, 0.2),
    ("shuffled", "firing_entropy_median", 0.83, np.nan, 0.95, np.nan, np.nan),
    ("shuffled", "shared", 0, np.nan, 0, 0, 0),
    ("half-1", "comes_back_share", 0.04, 0.0, 0.03, np.nan, np.nan),
    ("half-1", "correlation_mean_in_half-2", 0.39, 0.0, 0.38, np.nan, np.nan),
]


def funnel() -> pd.DataFrame:
    """Table `funnel`."""
    rows = [
        (run, start, None, step, left, left / counts[0], 0.1, 0.15, 0.2)
        for (run, start), counts in COUNTS.items()
        for step, left in zip(STEPS, counts, strict=False)
    ]
    agreement = ["agreement_low", "agreement_median", "agreement_high"]
    return pd.DataFrame(rows, columns=["run", "start", "level", "step", "concepts", "share", *agreement])


def controls() -> pd.DataFrame:
    """Table `controls`."""
    columns = ["run", "measure", "value", "null", "start", "adds_low", "adds_high"]
    table = pd.DataFrame(CONTROLS, columns=columns).astype(dict.fromkeys(columns[2:], float))
    table.insert(5, "adds", table["value"] - table["start"])
    return table


def control_concepts() -> pd.DataFrame:
    """Table `control_concepts`: of the run three of four concepts are significant, before the first step one."""
    rows = [
        ("usae", False, (0.02, 0.1, 0.3, 0.5), (0.01, 0.05, 0.01, 0.3), 0.9),
        ("usae", True, (0.04, 0.2, 0.3, 0.0), (0.01, 0.9, 0.9, np.nan), 0.95),
        ("shuffled", False, (0.0, 0.0, 0.0, 0.0), (0.9, 0.9, 0.9, np.nan), 0.8),
        ("shuffled", True, (0.0, 0.0, 0.0, 0.0), (0.9, 0.9, 0.9, np.nan), 1.0),
    ]
    frames = [
        pd.DataFrame({"run": run, "start": start, "concept_id": range(4), "cofire_proportion_min": shares, "q": q})
        .assign(firing_entropy=entropy)
        for run, start, shares, q, entropy in rows
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def sensitivity() -> pd.DataFrame:
    """Table `sensitivity`."""
    rows = [
        ("agreement", 0.02, False, 57, 6),
        ("agreement", 0.02, True, 45, 1),
        ("agreement", 0.3, False, 0, 0),
        ("agreement", 0.3, True, 2, 0),
        ("matched", 0.5, False, 28, 19),
        ("matched", 0.5, True, 25, 9),
    ]
    return pd.DataFrame(rows, columns=["threshold", "value", "start", "shared", "universal"])


def repeated() -> pd.DataFrame:
    """Table `repeated`."""
    return pd.DataFrame(
        {"start": [False, True], "chosen_by": "even", "step": "beyond controls", "concepts": [27, 18],
         "repeated": [18, 9], "anyhow": [0.04, 0.03], "share": [18 / 27, 0.5]}
    )  # fmt: skip


def stability() -> pd.DataFrame:
    """Table `stability` of four concepts: the run's first comes back in both halves, its second in half-1 alone,
    its third correlates, but not in every model; the last fires too seldom. Before the first step none does.
    """
    matches = {
        ("usae", "seed-1", False): (0.9, 0.9, 0.9),
        ("usae", "half-1", False): (0.9, 0.8, 0.75),
        ("usae", "half-2", False): (0.8, 0.3, 0.2),
        ("half-1", "half-2", False): (0.9, 0.1, 0.2),
        ("usae", "half-1", True): (0.4, 0.3, 0.2),
        ("usae", "half-2", True): (0.5, 0.3, 0.2),
    }
    frames = [
        pd.DataFrame(
            {"run": run, "against": against, "start": start, "concept_id": range(4),
             "correlation": [*correlations, np.nan], "correlation_least": [0.6, 0.6, 0.1, np.nan],
             "correlation_other": [0.1, 0.0, -0.1, np.nan]}
        )
        for (run, against, start), correlations in matches.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def verdict(*levels: str) -> pd.DataFrame:
    """Table `verdict`: a question that meets its bar, and one of each of these levels; of several the last was not
    asked.
    """
    rows = [("own variance", "readable", True, 0.8, 0.0, "The codes of `a` explain 80 % of its own variance", "")]
    for number, level in enumerate(levels):
        asked = number == 0 or number < len(levels) - 1
        reason = f"Reason {number}" if asked else f"Not asked: Reason {number}"
        rows.append((f"question {number}", level, asked, 0.1, 0.5, reason, f"Advice {number}"))
    return pd.DataFrame(rows, columns=["question", "level", "asked", "value", "bar", "reason", "advice"])
