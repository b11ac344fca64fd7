"""Tables of stage `maximise`."""

from usae.common.columns import MODEL
from usae.common.tables import Column, Table

TARGET_KIND = Column("kind", "string", "concept, or random: a random direction of each model, the control")
TARGET = Column("concept_id", "int32", "number of the concept, or of the random direction")
START = Column("start", "int16", "number of the initial phase, from 0; its seed is `seed` + start")

MAXIMISATION = Table(
    "maximisation",
    "one maximised picture (target, start, model it is made for), seen whole by one model",
    (
        TARGET_KIND,
        TARGET,
        START,
        Column("model", "string", "slug of the model that the picture is made for"),
        Column("scored_by", "string", "slug of the model that looks at it"),
        Column("score", "float32", "the target in scored_by, before ReLU and TopK, by maximise.score"),
        Column(
            "z",
            "float64",
            "score less its mean over real images",
            "standard deviations",
            "its standard deviation over real images",
        ),
        Column(
            "z_others",
            "float64",
            "the same for the other targets of this kind, mean: what the picture gives to targets that it"
            " is not made for",
            "standard deviations",
        ),
        Column("percentile", "float64", "real images that score lower", "percent", "real_images"),
        Column("real_images", "int32", "real images scored, evenly spaced held-out ones", "images"),
        Column(
            "map_correlation",
            "float64",
            "Pearson correlation over tokens of the target's maps in scored_by and in model",
        ),
        Column(
            "repeat",
            "float64",
            "cosine with the picture from start 0, both as the mean token that model sees, less that of"
            " real images; null for start 0 and other models than the own",
        ),
        Column("repeat_others", "float64", "the same with start 0 of the other targets of this kind, mean"),
    ),
)

MAXIMISATION_CURVES = Table(
    "maximisation_curves",
    "one step of the maximisation of one target for one model",
    (
        TARGET_KIND,
        TARGET,
        START,
        MODEL,
        Column("step", "int32", "step of the optimisation, from 0", "steps"),
        Column("score", "float32", "the target in the step's crops, before ReLU and TopK", "code"),
    ),
)
