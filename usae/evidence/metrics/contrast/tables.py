"""Tables of stage `contrast`: the run beside its controls, each after training and before it."""

from usae.common.columns import CONCEPT, RUN, START
from usae.common.tables import Column, Table

CONTROLS = Table(
    "controls",
    "one measure of the run or of one of its controls, all on the same held-out images",
    (
        RUN,
        Column(
            "measure",
            "string",
            "as in table summary; shared: concepts that pass the funnel's steps from alive to beyond controls;"
            " universal: and come back in both halves; comes_back_share, correlation_mean, jaccard_mean,"
            " cosine_mean: of the run's concepts, or its twin's where there is one, in this SAE (table stability),"
            " over those with 20 fires in each model; X_in_half-2: of this SAE's concepts in that one",
        ),
        Column("value", "float64", "its value after training; null where it is not defined"),
        Column(
            "null",
            "float64",
            "its value with one model re-paired, the one that costs least, or (comes_back_share, correlation_mean)"
            " with the partner of another concept; null where there is none",
        ),
        Column("start", "float64", "its value before the first step"),
        Column("adds", "float64", "what training adds: value less start"),
        Column(
            "adds_low",
            "float64",
            "lower end of its 95 % interval, 1.96 standard deviations of 200 resamples of the held-out images;"
            " counts are made anew by agreement, and by it beyond chance, where chance and the other steps stay as"
            " they are; null where not resampled",
        ),
        Column("adds_high", "float64", "upper end, likewise"),
        Column(
            "run_less", "float64", "R2 of the run less this one's, both after training; null for other measures"
        ),
        Column("run_less_low", "float64", "lower end of its 95 % interval over the same resamples, as adds_low"),
        Column("run_less_high", "float64", "upper end, likewise"),
    ),
)

CONTROL_CONCEPTS = Table(
    "control_concepts",
    "one concept of the run or of one of its controls: what the funnel asks of it",
    (
        RUN,
        START,
        CONCEPT,
        Column("models_alive", "int8", "number of models in which it fires at least once", "models"),
        Column("fires_least", "int64", "fires in the model with the fewest; tested from 20 on", "tokens"),
        Column("firing_entropy", "float64", "see table concepts"),
        Column("cofires", "int64", "tokens on which all models fire", "tokens"),
        Column("cofire_proportion_min", "float64", "see table concepts"),
        Column(
            "null_mean",
            "float64",
            "the same with one model re-paired, mean; of the model for which it is largest",
            "tokens",
            "permutations",
        ),
        Column(
            "agreement_beyond_chance",
            "float64",
            "cofire_proportion_min, less what it is with that model re-paired; null when dead in some model",
            denominator="fires of the model with the most fires",
        ),
        Column("lift", "float64", "co-fires over that mean: the least over models", denominator="null_mean"),
        Column("p", "float64", "p_tail of table nulls, the largest over models; null with fewer than 20 fires"),
        Column("q", "float64", "p after Benjamini and Hochberg, over the concepts with 20 fires in each model"),
    ),
)

STABILITY = Table(
    "stability",
    "one concept of an SAE, matched one to one with those of another by the correlation of their codes",
    (
        Column(
            "run", "string", "usae; twin: likewise, where there is one; half-1: against the SAE of the other half"
        ),
        Column(
            "against",
            "string",
            "half-N: trained on one half of the images, the two have none in common; seed-N: on the same images",
        ),
        Column("start", "bool", "both before their first step: as like as starts are"),
        CONCEPT,
        Column("partner", "int32", "matched concept of the other SAE; null where either has fewer than 20 fires"),
        Column(
            "correlation",
            "float64",
            "Pearson correlation of the two codes over held-out tokens, mean over models; the matching makes their"
            " sum largest",
        ),
        Column("correlation_least", "float64", "smallest over models"),
        Column("correlation_other", "float64", "mean over models, with the partner of another concept"),
        Column(
            "jaccard", "float64", "tokens on which both fire, mean over models", denominator="tokens of either"
        ),
        Column(
            "cosine",
            "float64",
            "of the two directions, without the mean token's, all models side by side",
        ),
        Column("fires_least", "int64", "fires in the model with the fewest, on the images compared", "tokens"),
    ),
)

SENSITIVITY = Table(
    "sensitivity",
    "one value of one of the funnel's thresholds, the others as they are: how many concepts are left of"
    " the run, or"
    " of its twin where there is one",
    (
        Column(
            "threshold",
            "string",
            "agreement: smallest co-fire proportion; support: fires in each model; bar: quantile of the"
            " agreements beyond chance in controls with nothing to share; matched: correlation with the partner;"
            " threshold: code above which a concept fires",
        ),
        Column("value", "float64", "its value"),
        START,
        Column("shared", "int32", "concepts that pass the steps from alive to beyond controls", "concepts"),
        Column("universal", "int32", "of these, those that come back in both halves", "concepts"),
    ),
)

REPEATED = Table(
    "repeated",
    "one step of the funnel on every second held-out image, and again on the others, which chose"
    " nothing; of the run,"
    " or of its twin where there is one",
    (
        START,
        Column("chosen_by", "string", "even or odd: the images that chose"),
        Column("step", "string", "the last of the steps asked (table funnel)"),
        Column("concepts", "int32", "concepts that pass on the images that chose", "concepts"),
        Column("repeated", "int32", "of these, those that pass on the others too", "concepts"),
        Column(
            "anyhow", "float64", "share of all concepts that pass on the others", denominator="concepts of the SAE"
        ),
        Column("share", "float64", "repeated as a share", denominator="concepts"),
    ),
)

START_EXEMPLARS = Table(
    "start_exemplars",
    "one image among the top images of one concept of the universal SAE before its first step",
    (
        CONCEPT,
        Column("rank", "int16", "0 = highest code"),
        Column("image", "int32", "row among the readable images of data/images/val.parquet"),
        Column("code", "float32", "the largest code in the image, mean over models", "code"),
    ),
)
