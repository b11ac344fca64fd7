"""Tables of stage `planted`."""

from usae.common.columns import CONCEPT
from usae.common.tables import Column, Table

SETTING = Column(
    "setting",
    "string",
    "matched: an SAE trained on them; start: the same before its first step; shuffled: trained on re-paired"
    " images; ideal: codes that are the concepts"
    " themselves, with concepts of different models at one index",
)
KIND_TEXT = (
    "shared: all models have it; pair: two; most: all but one, of more than three; private: one; twin: one, but it"
    " often comes with a like one of each other model"
)

PLANTED = Table(
    "planted",
    "one number about planted concepts in generated activations: setting, quantity, by what, and kind; over all"
    " seeds, each a world and an SAE of its own",
    (
        SETTING,
        Column(
            "quantity",
            "string",
            "cosine: mean over concepts and models of the one-to-one match; found: share of these matches"
            " above 0.9; agreed: share found at one index in all models that have the concept; tracked:"
            " share with one code that has its direction and follows it in all of them; called universal: share"
            " of the tracked ones whose code the rule `by` calls universal, the false-universality rate for other"
            " kinds than shared; precision: share of all codes that the rule `by` calls universal which follow one"
            " shared concept best in every model; auroc: how well the score `by` ranks shared concepts above those"
            " of this kind (1 = always, 0.5 = chance; tracked ones only)",
        ),
        Column("by", "string", "direction or activity of codes, or the score or rule judged"),
        Column("kind", "string", f"{KIND_TEXT}; others: all but shared, together"),
        Column("value", "float64", "the number; null where nothing is left to judge", denominator="planted"),
        Column(
            "low",
            "float64",
            "lower end of its interval: of shares, Wilson's of 95 % over the concepts of all seeds; of cosine and"
            " auroc, the least seed's value",
        ),
        Column("high", "float64", "upper end; of cosine and auroc, the largest seed's value"),
        Column("planted", "int32", "planted concepts judged; for precision, codes", "concepts"),
    ),
)

PLANTED_CONCEPTS = Table(
    "planted_concepts",
    "one planted concept in one setting, at the code that follows it best in all its models",
    (
        SETTING,
        Column("seed", "int64", "of the world and of the SAE"),
        Column("planted_id", "int32", "number of the planted concept"),
        Column("kind", "string", KIND_TEXT),
        CONCEPT,
        Column("cosine", "float64", "of the code's direction and the concept's, mean over models that have it"),
        Column("best_cosine", "float64", "the same of the one-to-one match by direction, model by model"),
        Column("found", "float64", "share of the models that have it in which that match is above 0.9"),
        Column("agreed", "bool", "matches by direction are found at one index in all models that have it"),
        Column("tracked", "bool", "the code has its direction and follows it in all models that have it"),
        Column("firing_entropy", "float64", "see table concepts"),
        Column("cofire_proportion_min", "float64", "see table concepts"),
        Column("correlation_min", "float64", "smallest correlation between the codes of two models; 0 if dead"),
        Column("lift", "float64", "see table concepts"),
        Column(
            "p",
            "float64",
            "chance of as many co-fires where one model's images are re-paired, tokens in their places; the"
            " largest over models; null with fewer than 20 fires in some model",
        ),
        Column("called_entropy", "bool", "the code's firing entropy is above 0.95"),
        Column("called_dependent", "bool", "its co-fires are beyond all models re-paired at once: q at most 5 %"),
        Column("called_significant", "bool", "its co-fires are beyond each model re-paired alone: q at most 5 %"),
        Column(
            "called_funnel",
            "bool",
            "significant, and its smallest co-fire proportion reaches `measure.agreement`",
        ),
        Column("called_alike", "bool", "significant, and correlation_min is at least 0.4"),
    ),
)
