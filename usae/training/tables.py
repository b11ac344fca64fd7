"""Table `training`: the log of one SAE."""

from usae.common.tables import Column, Table

TRAINING = Table(
    "training",
    "one logged training step",
    (
        Column("step", "int64", "number of the step, from 0", "steps"),
        Column("epoch", "int32", "number of the epoch, from 0", "epochs"),
        Column("source", "string", "slug of the encoded model; all where a step encodes every model"),
        Column("loss", "float64", "loss, summed over targets, before the update"),
        Column("reconstruction", "float64", "its reconstruction part"),
        Column("auxiliary", "float64", "its auxiliary part, weight included"),
        Column("learning_rate", "float64", "learning rate of the update"),
        Column("gradient_norm", "float64", "norm of the gradient before clipping"),
        Column(
            "r2_self",
            "float64",
            "channel R2 of a model from its own codes, in the batch; every 20th step",
        ),
        Column("r2_cross", "float64", "the same, mean over the other models"),
    ),
)
