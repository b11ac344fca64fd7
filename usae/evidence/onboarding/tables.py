"""Table `onboarding`."""

from usae.common.columns import TOKENS
from usae.common.tables import Column, Table

ONBOARDING = Table(
    "onboarding",
    "one newcomer to the frozen universal SAE of the other models, and one way of reconstruction with it",
    (
        Column(
            "dictionary",
            "string",
            "the frozen SAE of the old models: trained; start: before its first step; shuffled: trained on"
            " re-paired images, so that its concepts are nobody's in common",
        ),
        Column(
            "setting",
            "string",
            "matched: the newcomer learnt from true pairs; shuffled: from re-paired images; untrained:"
            " from true pairs, but its network has random weights",
        ),
        Column("images", "int32", "training images that it learnt from", "images"),
        Column("source", "string", "slug of the encoded model; it or the target is the newcomer"),
        Column("target", "string", "slug of the reconstructed model"),
        Column(
            "r2",
            "float64",
            "share of the held-out sum of squares explained by the source's codes",
            denominator="sum of squares about the mean of each channel",
        ),
        Column(
            "r2_ridge",
            "float64",
            "the same of the best linear map from source to target, learnt from as many images, paired as"
            " in this setting",
            denominator="sum of squares about the mean of each channel",
        ),
        Column(
            "lift",
            "float64",
            "co-fires of source and target over chance (see concept_pairs), median over concepts; null for"
            " the newcomer with itself",
        ),
        TOKENS,
    ),
)
