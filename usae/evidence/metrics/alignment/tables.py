"""Table `alignment` (stage `measure`)."""

from usae.common.tables import Column, Table

ALIGNMENT = Table(
    "alignment",
    "one measure of likeness of two models (all: of all models) in one space",
    (
        Column(
            "measure",
            "string",
            "mutual_knn: share of the 10 nearest neighbours in common; cka, cka_unbiased: linear CKA;"
            " buddies: mutual nearest units by correlation, as a share of the smaller model's;"
            " buddies_5: units whose nearest unit has them among its 5 nearest, share of model_i's;"
            " buddy_correlation: median correlation of mutual nearest units; rosetta: tuples that are"
            " mutual nearest in all pairs, share of the smallest model's units",
        ),
        Column("space", "string", "activations or codes, and the rows: image means, tokens, all tokens"),
        Column("model_i", "string", "slug of one model, or all"),
        Column("model_j", "string", "slug of the other model, or all"),
        Column("value", "float64", "the measure"),
        Column("null_mean", "float64", "its mean over re-pairings of the images between models"),
        Column("null_sd", "float64", "its standard deviation over them"),
        Column(
            "calibrated",
            "float64",
            "value less null_mean: 0 = as re-paired images, 1 = identical",
            denominator="1 - null_mean",
        ),
        Column(
            "p",
            "float64",
            "share of pairings, the true one included, that reach the value",
            denominator="re-pairings + 1",
        ),
    ),
)
