"""Table `ood`."""

from usae.common.columns import TOKENS
from usae.common.tables import Column, Table

OOD = Table(
    "ood",
    "one pair of models on one set of images, held out or of another kind (`ood.images`)",
    (
        Column("images", "string", "held-out; other: of another kind, in the same units and encoders"),
        Column("source", "string", "slug of the encoded model"),
        Column("target", "string", "slug of the reconstructed model"),
        Column(
            "r2_scalar",
            "float64",
            "as in table reconstruction, of these images alone (paper v2, Table 1)",
            denominator="sum of squares about one mean",
        ),
        Column("r2_channel", "float64", "likewise", denominator="sum of squares about each channel's mean"),
        Column("mse", "float64", "mean squared error per token and channel, standardised units"),
        Column(
            "cofire_proportion",
            "float64",
            "fires of the source on which the target fires too, all concepts together; null for the model itself",
            denominator="fires of the source",
        ),
        Column(
            "lift",
            "float64",
            "co-fires of the two over chance (see concept_pairs), median over concepts; null likewise",
        ),
        Column("alive", "float64", "concepts that fire in the source", denominator="concepts"),
        Column("firing", "float64", "concepts that fire per token of the source", "concepts", "tokens"),
        Column("l0", "float64", "codes above 0 per token of the source", "concepts", "tokens"),
        Column(
            "energy",
            "float64",
            "norm of the mean contribution in the source, summed over concepts",
            "standardised activation",
            "tokens",
        ),
        Column("count", "int32", "images", "images"),
        TOKENS,
    ),
)
