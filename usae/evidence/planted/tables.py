"""Tables of stage `planted`."""

from usae.common.columns import CONCEPT
from usae.common.tables import Column, Table

SETTING = Column(
    "setting",
    "string",
    "matched: an SAE trained on them; shuffled: on re-paired images; ideal: codes that are the concepts"
    " themselves, with private concepts of different models at one index",
)
KIND = Column(
    "kind",
    "string",
    "shared: all models have it; pair: two; private: one; twin: one, but it often comes with a like one of each"
    " other model",
)

PLANTED = Table(
    "planted",
    "one number about planted concepts in generated activations: setting, quantity, by what, and kind",
    (
        SETTING,
        Column(
            "quantity",
            "string",
            "cosine: mean over concepts and models of the one-to-one match; found: share of matches"
            " above 0.9; agreed: share found at one index in all models that have the concept; tracked:"
            " share with one code that has its direction and follows it in all of them; auroc: how"
            " well the score `by` ranks shared concepts above those of this kind (1 = always, 0.5 ="
            " chance; tracked ones only); called universal: share that the rule `by` calls universal,"
            " the false-universality rate for other kinds than shared",
        ),
        Column("by", "string", "direction or activity of codes, or the score or rule judged"),
        KIND,
        Column("value", "float64", "the number; null where no concept is left", denominator="planted"),
        Column("planted", "int32", "planted concepts counted", "concepts"),
    ),
)

PLANTED_CONCEPTS = Table(
    "planted_concepts",
    "one planted concept in one setting, at the code that follows it best in all its models",
    (
        SETTING,
        Column("planted_id", "int32", "number of the planted concept"),
        KIND,
        CONCEPT,
        Column("cosine", "float64", "of the code's direction and the concept's, mean over models that have it"),
        Column("agreed", "bool", "matches by direction are found at one index in all models that have it"),
        Column("firing_entropy", "float64", "see table concepts"),
        Column("cofire_proportion_min", "float64", "see table concepts"),
        Column("lift", "float64", "see table concepts"),
        Column(
            "p",
            "float64",
            "chance of as many co-fires when images are re-paired between models, tokens in their places;"
            " null when dead in some model",
            denominator="re-pairings + 1",
        ),
    ),
)
