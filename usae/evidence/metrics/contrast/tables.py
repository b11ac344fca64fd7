"""Tables of stage `contrast`: the run beside its controls."""

from usae.common.columns import CONCEPT, RUN
from usae.common.tables import Column, Table

CONTROLS = Table(
    "controls",
    "one measure of the run or of one of its controls, all on the same held-out images",
    (
        RUN,
        Column(
            "measure",
            "string",
            "as in table summary; stability_mean, stability_above_X: cosines of the run's concepts with"
            " those of this seed (table stability), mean and share above X; stability_lift_r: their rank"
            " correlation with the lift, over the concepts that co-fire significantly",
        ),
        Column("value", "float64", "its value; null where it is not defined"),
        Column(
            "null",
            "float64",
            "its value where the held-out images are re-paired between the models, or (stability) of"
            " random dictionaries; null where there is none",
        ),
    ),
)

CONTROL_CONCEPTS = Table(
    "control_concepts",
    "one concept of the run or of one of its controls: what the funnel asks of it",
    (
        RUN,
        CONCEPT,
        Column("models_alive", "int8", "number of models in which it fires at least once", "models"),
        Column("firing_entropy", "float64", "see table concepts"),
        Column("cofires", "int64", "tokens on which all models fire", "tokens"),
        Column("null_mean", "float64", "the same with re-paired images, mean", "tokens", "permutations"),
        Column("lift", "float64", "co-fires over that mean", denominator="null_mean"),
        Column(
            "excess",
            "float64",
            "co-fires beyond that mean: 0 = as re-paired images, 1 = all that the rates allow",
            denominator="fires of the model with the fewest, less null_mean",
        ),
        Column("p", "float64", "as in table nulls; null when dead in some model"),
        Column("q", "float64", "likewise"),
    ),
)

STABILITY = Table(
    "stability",
    "one concept of the run, matched one to one with those of the same SAE from another start",
    (
        Column("run", "string", "seed-N; gaussian: two random dictionaries of this size"),
        CONCEPT,
        Column("partner", "int32", "matched concept of the other run; null for gaussian"),
        Column(
            "cosine",
            "float64",
            "cosine of the two, all models' dictionaries side by side; the matching makes their sum largest",
        ),
    ),
)
