"""Tables of stage `measure` with rows for each concept."""

from usae.common.columns import CONCEPT, MODEL, TOKENS
from usae.common.tables import Column, Table

CONCEPTS = Table(
    "concepts",
    "one concept, on the held-out images",
    (
        CONCEPT,
        Column("level", "int8", "level of the concept, 1 = coarsest; 1 for all where there is one level"),
        Column(
            "refines",
            "int32",
            "concept of the level before that it goes with best: the one of the largest refines_phi, the first of"
            " equal ones; null on level 1, where it never fires, and where no phi is above 0",
        ),
        Column(
            "refines_phi",
            "float64",
            "phi coefficient: correlation of its fires with those of `refines`, over the tokens of all models"
            " together",
        ),
        Column("alive", "bool", "fires at least once in at least one model"),
        Column("models_alive", "int8", "number of models in which it fires at least once", "models"),
        Column("fires", "int64", "fires, summed over models", "tokens"),
        Column("cofires", "int64", "tokens on which all models fire", "tokens"),
        TOKENS,
        Column(
            "firing_entropy",
            "float64",
            "entropy of the models' shares in the fires: 1 = equally often, 0 = one model only;"
            " compares rates, blind to whether the models fire on the same tokens",
            denominator="log of the number of models",
        ),
        Column(
            "unique_to",
            "string",
            "slug of the model with the most fires where firing_entropy is below 0.2; null elsewhere",
        ),
        Column(
            "cofire_proportion_min",
            "float64",
            "smallest co-firing proportion over models: every model agrees at least this often;"
            " null when dead in some model",
            denominator="fires of the model with the most fires",
        ),
        Column(
            "lift",
            "float64",
            "co-fires over what independent models with the same rates would give; 1 = chance",
            denominator="product of the models' firing rates x tokens",
        ),
        Column("log10_lift", "float64", "decimal logarithm of lift; null without co-fires"),
        Column(
            "significant",
            "bool",
            "all models co-fire more often than under null `images` of table nulls, at a false discovery"
            " rate of 5 %; null when dead in some model",
        ),
        Column(
            "stops_at",
            "string",
            "first step of table funnel that it does not pass; universal: passes all; no control: all but those"
            " that need controls, which a quick run has not",
        ),
        Column("why", "string", "what it lacks there; null for universal"),
        Column(
            "energy",
            "float64",
            "energy (see concept_models), mean over models",
            "standardised activation",
            "tokens x models",
        ),
        Column(
            "top_label",
            "string",
            "label that names it best: the largest IoU of fires and tokens with the label on the images with even"
            " numbers, of labels that are more frequent on its fires than elsewhere; null where there is none, or"
            " it does not fire on both these images and the others",
        ),
        Column(
            "top_label_share",
            "float64",
            "share of the fires that lie on tokens with the top label, on the images with odd numbers",
            denominator="fires on labelled tokens of these images, summed over models",
        ),
        Column(
            "top_label_base",
            "float64",
            "share of all tokens with the top label, on the same images",
            denominator="labelled tokens of these images",
        ),
    ),
)

CONCEPT_MODELS = Table(
    "concept_models",
    "one concept in one model, on the held-out images",
    (
        CONCEPT,
        MODEL,
        Column("fires", "int64", "tokens on which the model fires", "tokens"),
        Column("firing_rate", "float64", "share of tokens on which the model fires", denominator="tokens"),
        Column("cofires_without", "int64", "tokens on which all other models fire", "tokens"),
        Column(
            "cofire_proportion",
            "float64",
            "share of the model's fires on which all models fire",
            denominator="fires of the model",
        ),
        Column(
            "cofire_ceiling",
            "float64",
            "largest co-firing proportion that the models' rates allow",
            denominator="fires of the model",
        ),
        Column(
            "joins_others",
            "float64",
            "of the tokens on which all other models fire, the share on which this one does too",
            denominator="cofires_without",
        ),
        Column(
            "energy",
            "float64",
            "norm of the mean contribution, || E[code] D_row || with the decoder's gain (the authors' code, which"
            " has none)",
            "standardised activation",
            "tokens",
        ),
        Column(
            "energy_squared",
            "float64",
            "its square, as in eq. 9 of arXiv 2502.03714",
            "standardised activation, squared",
        ),
        Column("mean_code", "float64", "mean code, zeros included", "code", "tokens"),
        Column("max_code", "float32", "largest code", "code"),
    ),
)

CONCEPT_PAIRS = Table(
    "concept_pairs",
    "one concept in an ordered pair of models",
    (
        CONCEPT,
        MODEL,
        Column("other", "string", "slug of another model"),
        Column("cofires", "int64", "tokens on which both fire, whatever further models do", "tokens"),
        Column(
            "cofire_proportion",
            "float64",
            "share of the model's fires on which the other fires too",
            denominator="fires of the model",
        ),
        Column(
            "cofire_ceiling",
            "float64",
            "largest such share that the two rates allow",
            denominator="fires of the model",
        ),
        Column(
            "lift",
            "float64",
            "co-fires over what two independent models with the same rates would give; 1 = chance",
            denominator="product of the two firing rates x tokens",
        ),
    ),
)

PATTERNS = Table(
    "patterns",
    "one concept and one set of models that fire together on a token while the others do not",
    (
        CONCEPT,
        Column("pattern", "int32", "the set as a bitmask, bit i for model i in the order of `models`"),
        Column("models", "string", "the same set as slugs, joined by +"),
        Column("fires", "int64", "tokens on which exactly this set fires; never 0", "tokens"),
    ),
)

NULLS = Table(
    "nulls",
    "one concept, a group of models in all of which it fires, and a null: what re-paired images give",
    (
        CONCEPT,
        Column("models", "string", "the group: slugs joined by +"),
        Column(
            "null",
            "string",
            "which images: any (images), of the same class (class), any and each one's tokens shuffled (tokens),"
            " each of them of one model of the group alone, the one of `moved`; joint: as images, but all models"
            " but the first at once, which says `not independent` and no more",
        ),
        Column(
            "moved", "string", "the models that were re-paired: of each alone the one of the largest null_mean"
        ),
        Column("cofires", "int64", "tokens on which the whole group fires", "tokens"),
        Column("null_mean", "float64", "the same with re-paired images, mean", "tokens", "permutations"),
        Column("null_sd", "float64", "its standard deviation", "tokens", "permutations - 1"),
        Column("lift", "float64", "co-fires over their mean with re-paired images", denominator="null_mean"),
        Column("z", "float64", "(cofires - null_mean) / null_sd; null where null_sd is 0"),
        Column(
            "p",
            "float64",
            "1 + permutations with as many co-fires or more, the largest over the models moved",
            denominator="1 + permutations",
        ),
        Column(
            "p_tail",
            "float64",
            "the same; where no permutation has as many, at most the tail of a negative binomial (or"
            " Poisson) of that mean and variance",
        ),
        Column("q", "float64", "p_tail after Benjamini and Hochberg, over the rows of this group and null"),
        Column("significant", "bool", "q is at most 0.05"),
    ),
)

EXEMPLARS = Table(
    "exemplars",
    "one image among the top images of one concept",
    (
        CONCEPT,
        Column(
            "ranking",
            "string",
            "model slug: by its largest code in the image; mean: by the mean of these",
        ),
        Column("rank", "int16", "0 = highest code"),
        Column("image", "int32", "row among the readable images of data/images/val.parquet"),
        Column("code", "float32", "the code ranked by", "code"),
    ),
)
