"""Every table in `reports/`: its columns, their units, meanings and denominators, declared once.

The declaration validates and types what the stages write and is stored in the Parquet schema (metadata
`description` and `unit` of each field); stage `measure` also prints it as `reports/README.md`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from usae.errors import UserError

README_HEAD = """# Reports

Parquet tables: `pandas.read_parquet("reports/concepts.parquet")`. The texts below are also in
each file's schema. A concept *fires* in a model on a token when its code exceeds `measure.threshold`;
all models look at the same held-out tokens. An empty value (null, NaN) means that the number is not defined
there, never 0.
"""


@dataclass(frozen=True)
class Column:
    """One column: `dtype` is a pyarrow type name; `unit` is empty for pure numbers and names."""

    name: str
    dtype: str
    meaning: str
    unit: str = ""
    denominator: str = ""

    @property
    def field(self) -> pa.Field:
        """The pyarrow field with its documentation as metadata."""
        description = f"{self.meaning}; denominator: {self.denominator}" if self.denominator else self.meaning
        metadata = {"description": description, "unit": self.unit}
        return pa.field(self.name, pa.type_for_alias(self.dtype), metadata=metadata)


@dataclass(frozen=True)
class Table:
    """One table: `row` says what one row is; `path` is its file where that is not `reports/<name>.parquet`."""

    name: str
    row: str
    columns: tuple[Column, ...]
    path: str = ""

    @property
    def file(self) -> str:
        """Where the table lies, from the root of the repository."""
        return self.path or f"reports/{self.name}.parquet"

    @property
    def schema(self) -> pa.Schema:
        """The pyarrow schema, documentation included."""
        return pa.schema([column.field for column in self.columns], metadata={"table": self.name, "row": self.row})


CONCEPT = Column("concept_id", "int32", "number of the concept, row of every dictionary")
MODEL = Column("model", "string", "slug of the model")
SPLIT = Column("split", "string", "val (held out) or train (the encoded part of the training images)")
TOKENS = Column("tokens", "int64", "tokens measured", "tokens")

RUN = Column(
    "run",
    "string",
    "usae: the run itself; seed-N: the same from another start; shuffled: trained on re-paired images; untrained:"
    " all networks with random weights; untrained-one: the first one; k-N: another k",
)

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
TARGET_KIND = Column("kind", "string", "concept, or random: a random direction of each model, the control")
TARGET = Column("concept_id", "int32", "number of the concept, or of the random direction")
START = Column("start", "int16", "number of the initial phase, from 0; its seed is `seed` + start")

TABLES = {
    table.name: table
    for table in (
        Table(
            "reconstruction",
            "one SAE, source model (encoded), target model (reconstructed) and split",
            (
                Column("sae", "string", "usae, or independent: an SAE of the one model alone"),
                Column("source", "string", "slug of the encoded model"),
                Column("target", "string", "slug of the reconstructed model"),
                SPLIT,
                Column(
                    "r2_scalar",
                    "float64",
                    "share of the sum of squares explained, as in arXiv 2502.03714 and the authors' code",
                    denominator="sum of squares about one mean over all tokens and channels",
                ),
                Column(
                    "r2_channel",
                    "float64",
                    "the same, but the mean of a channel counts as known (variance-weighted R2)",
                    denominator="sum of squares about the mean of each channel",
                ),
                Column(
                    "mse",
                    "float64",
                    "mean squared error",
                    "standardised activation, squared",
                    "tokens x channels",
                ),
                Column(
                    "r2_ridge",
                    "float64",
                    "r2_channel of the best linear map from source to target (ridge, fitted on training tokens):"
                    " the ceiling of linear translation; null for train, on which it is fitted",
                    denominator="sum of squares about the mean of each channel",
                ),
                Column(
                    "r2_of_ridge",
                    "float64",
                    "r2_channel as a share of that ceiling; null where the ceiling is not above 0",
                    denominator="r2_ridge",
                ),
                TOKENS,
            ),
        ),
        Table(
            "concepts",
            "one concept, on the held-out images",
            (
                CONCEPT,
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
                    "universality",
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
                    "first step of table funnel that it does not pass; universal: passes all that were asked",
                ),
                Column("why", "string", "what it lacks there; null for universal"),
                Column(
                    "energy",
                    "float64",
                    "energy (see concept_models), mean over models",
                    "code",
                    "tokens x models",
                ),
                Column("top_label", "string", "label whose share among the fires exceeds its base rate most"),
                Column(
                    "top_label_share",
                    "float64",
                    "share of the fires that lie on tokens with the top label",
                    denominator="fires on labelled tokens, summed over models",
                ),
                Column(
                    "top_label_base",
                    "float64",
                    "share of all tokens with the top label",
                    denominator="labelled tokens",
                ),
            ),
        ),
        Table(
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
                    "norm of the mean contribution, || E[code] D_row || (the authors' code)",
                    "code",
                    "tokens",
                ),
                Column(
                    "energy_squared", "float64", "its square, as in eq. 9 of arXiv 2502.03714", "code, squared"
                ),
                Column("mean_code", "float64", "mean code, zeros included", "code", "tokens"),
                Column("max_code", "float32", "largest code", "code"),
            ),
        ),
        Table(
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
        ),
        Table(
            "nulls",
            "one concept, a group of models in all of which it fires, and a null: what re-paired images give",
            (
                CONCEPT,
                Column("models", "string", "the group: slugs joined by +"),
                Column(
                    "null",
                    "string",
                    "images: the images of all models but the first are permuted, tokens keep their positions;"
                    " class: the same within classes; tokens: as images, and each image's tokens shuffled",
                ),
                Column("cofires", "int64", "tokens on which the whole group fires", "tokens"),
                Column("null_mean", "float64", "the same with re-paired images, mean", "tokens", "permutations"),
                Column("null_sd", "float64", "its standard deviation", "tokens", "permutations - 1"),
                Column(
                    "lift", "float64", "co-fires over their mean with re-paired images", denominator="null_mean"
                ),
                Column("z", "float64", "(cofires - null_mean) / null_sd; null where null_sd is 0"),
                Column(
                    "p",
                    "float64",
                    "1 + permutations with as many co-fires or more",
                    denominator="1 + permutations",
                ),
                Column(
                    "p_tail",
                    "float64",
                    "the same; where no permutation has as many, at most the tail of a negative binomial (or"
                    " Poisson) of that mean and variance",
                ),
                Column(
                    "q", "float64", "p_tail after Benjamini and Hochberg, over the rows of this group and null"
                ),
                Column("significant", "bool", "q is at most 0.05"),
            ),
        ),
        Table(
            "consistency",
            "one concept of one model's universal dictionary, matched one to one with another dictionary",
            (
                MODEL,
                Column(
                    "against",
                    "string",
                    "independent: the dictionary of the model's own SAE; gaussian: the baseline, two random"
                    " dictionaries of this size matched with each other (concept_id is then a mere number)",
                ),
                CONCEPT,
                Column("partner", "int32", "matched concept of the other dictionary; null for gaussian"),
                Column("cosine", "float64", "cosine of the two; the matching makes their sum largest"),
            ),
        ),
        Table(
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
        ),
        Table(
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
        ),
        Table(
            "stability",
            "one concept of the run, matched one to one with those of the same SAE from another start",
            (
                Column("run", "string", "seed-N; gaussian: two random dictionaries of this size"),
                CONCEPT,
                Column("partner", "int32", "matched concept of the other run; null for gaussian"),
                Column(
                    "cosine",
                    "float64",
                    "cosine of the two, all models' dictionaries side by side; the matching makes their sum"
                    " largest",
                ),
            ),
        ),
        Table(
            "funnel",
            "one step that a universal concept has to pass, asked of the run or of one of its controls",
            (
                RUN,
                Column(
                    "step",
                    "string",
                    "alive: fires; in all models; significant: at least 20 co-fires, more than re-paired images"
                    " give (q <= 0.05); beyond untrained: lift above that of 95 % of such concepts in either"
                    " untrained control; stable: a cosine above 0.7 in most seeds, its own included; causal:"
                    " taking it out has like effects in all models (table ablation). The last two are asked of the"
                    " run only, the last one where there are labels",
                ),
                Column("concepts", "int32", "concepts that pass it and all steps before it", "concepts"),
                Column("share", "float64", "the same as a share", denominator="alive concepts"),
            ),
        ),
        Table(
            "patterns",
            "one concept and one set of models that fire together on a token while the others do not",
            (
                CONCEPT,
                Column("pattern", "int16", "the set as a bitmask, bit i for model i in the order of `models`"),
                Column("models", "string", "the same set as slugs, joined by +"),
                Column("fires", "int64", "tokens on which exactly this set fires; never 0", "tokens"),
            ),
        ),
        Table(
            "summary",
            "one number about the whole run; `a/b` reads: number a of model b, r2/i/j: source i, target j",
            (
                Column("name", "string", "what it is; means and medians are over alive concepts or over models"),
                Column("value", "float64", "its value, six significant digits; NaN where it is not defined"),
            ),
        ),
        Table(
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
        ),
        Table(
            "training",
            "one logged training step",
            (
                Column("step", "int64", "number of the step, from 0", "steps"),
                Column("epoch", "int32", "number of the epoch, from 0", "epochs"),
                Column("source", "string", "slug of the encoded model"),
                Column("loss", "float64", "loss, summed over targets, before the update"),
                Column("reconstruction", "float64", "its reconstruction part"),
                Column("auxiliary", "float64", "its auxiliary part, weight included"),
                Column("learning_rate", "float64", "learning rate of the update"),
                Column("gradient_norm", "float64", "norm of the gradient before clipping"),
                Column("r2_self", "float64", "channel R2 of the source, in the batch; every 20th step"),
                Column("r2_cross", "float64", "the same, mean over the other models"),
            ),
        ),
        Table(
            "probes",
            "one attribute that a linear probe reads from one backbone",
            (
                MODEL,
                Column("group", "string", "kind of attribute, such as shape or colour"),
                Column("attribute", "string", "the attribute"),
                Column("auc_trained", "float64", "area under the ROC curve, trained backbone; 0.5 = chance"),
                Column("auc_untrained", "float64", "the same for the backbone before training"),
                Column("positives", "int64", "tokens or images that carry the attribute"),
                Column("n", "int64", "tokens or images tested"),
            ),
        ),
        Table(
            "label_concepts",
            "one label and one model: the concept whose fires overlap most with the label's tokens",
            (
                MODEL,
                Column("label", "string", "name of the label"),
                CONCEPT,
                Column(
                    "iou",
                    "float64",
                    "tokens with the label on which it fires",
                    denominator="tokens with the label or a fire",
                ),
                Column(
                    "auroc", "float64", "chance that its code is larger on a token with the label; 0.5 = chance"
                ),
                Column("present", "int64", "tokens with the label", "tokens"),
                Column("tokens", "int64", "labelled tokens", "tokens"),
            ),
        ),
        Table(
            "label_probes",
            "one label and one model: the concept whose code alone tells images with the label from others best",
            (
                MODEL,
                Column("label", "string", "name of the label"),
                CONCEPT,
                Column("log_loss", "float64", "of test images, lower is better, 0.693 = chance", "nats", "n"),
                Column("positives", "int32", "test images with the label, half of them", "images"),
                Column("n", "int32", "test images", "images"),
            ),
        ),
        Table(
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
        ),
        Table(
            "paper",
            "one number that arXiv 2502.03714 prints, beside this run's",
            (
                Column("where", "string", "figure, table or topic; v1, v2: version of the paper"),
                Column("quantity", "string", "what it is"),
                Column("model", "string", "the paper's model, or source to target; null for means"),
                Column("paper", "float64", "the published number"),
                Column(
                    "ours", "float64", "this run's; of one model only where its slug is the paper's, else null"
                ),
                Column("difference", "float64", "ours less the paper's"),
                Column("differs", "string", "how the settings differ"),
            ),
        ),
        Table(
            "stitching",
            "one way from the images of a source model to the label readout of a target model, on held-out images",
            (
                Column(
                    "method",
                    "string",
                    "what the readout is shown: clean: the target's own activations; usae: their reconstruction"
                    " from the source's universal codes; ridge: their best linear prediction from the source's"
                    " activations; independent: their reconstruction from codes of the source's own SAE, each"
                    " concept turned into its match in the target's own SAE",
                ),
                Column("source", "string", "slug of the model that sees the images"),
                Column("target", "string", "slug of the model whose readout is asked"),
                Column(
                    "score",
                    "string",
                    "accuracy: of images of one class each; auc: area under the ROC curve, mean over labels",
                ),
                Column("value", "float64", "the score"),
                Column("clean", "float64", "the score of method clean for this target"),
                Column("chance", "float64", "auc: 0.5; accuracy: share of the commonest class"),
                Column("recovered", "float64", "value less chance", denominator="clean less chance"),
                Column("labels", "int32", "labels read out", "labels"),
                Column("images", "int32", "labelled held-out images", "images"),
            ),
        ),
        Table(
            "ablation",
            "one concept taken out of the held-out images in which it fires",
            (
                CONCEPT,
                Column("images", "int32", "images in which it fires, in the model with the fewest", "images"),
                Column("label", "string", "label whose score moves most; null where it is dead in some model"),
                Column(
                    "effect",
                    "float64",
                    "change of that score, mean over models",
                    "label (0 or 1)",
                    "images of each",
                ),
                Column(
                    "selectivity",
                    "float64",
                    "largest change of a label over the mean of the others, without sign, mean over models",
                ),
                Column(
                    "agreement",
                    "float64",
                    "correlation over labels of the changes in two models, each less the mean concept's and in"
                    " units of the label's spread over concepts; smallest over pairs of models; null where it is"
                    " dead in some model",
                ),
                Column(
                    "p",
                    "float64",
                    "mismatches (the first model's concept, random ones of the others) that agree as well",
                    denominator="mismatches + 1",
                ),
                Column(
                    "q", "float64", "p after Benjamini and Hochberg, over the concepts that fire in all models"
                ),
                Column("agrees", "bool", "q is at most 0.05"),
            ),
        ),
        Table(
            "onboarding",
            "one newcomer to the frozen universal SAE of the other models, and one way of reconstruction with it",
            (
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
        ),
        Table(
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
                Column(
                    "r2_channel", "float64", "likewise", denominator="sum of squares about each channel's mean"
                ),
                Column("mse", "float64", "mean squared error per token and channel, standardised units"),
                Column(
                    "cofire_proportion",
                    "float64",
                    "fires of the source on which the target fires too, all concepts together; null for the model"
                    " itself",
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
                Column("energy", "float64", "mean code of the source, summed over concepts", "code", "tokens"),
                Column("count", "int32", "images", "images"),
                TOKENS,
            ),
        ),
        Table(
            "planted",
            "one number about planted concepts in generated activations: setting, quantity, by what, and kind",
            (
                SETTING,
                Column(
                    "quantity",
                    "string",
                    "cosine: mean over concepts and models of the one-to-one match; found: share of matches"
                    " above 0.9; agreed: share found at one index in all models that have the concept; joined:"
                    " share with one code that has its direction and follows it in all of them; auroc: how"
                    " well the score `by` ranks shared concepts above those of this kind (1 = always, 0.5 ="
                    " chance; joined ones only); called: share that the rule `by` calls universal, the false-"
                    " universality rate for other kinds than shared",
                ),
                Column("by", "string", "direction or activity of codes, or the score or rule judged"),
                KIND,
                Column("value", "float64", "the number; null where no concept is left", denominator="planted"),
                Column("planted", "int32", "planted concepts counted", "concepts"),
            ),
        ),
        Table(
            "planted_concepts",
            "one planted concept in one setting, at the code that follows it best in all its models",
            (
                SETTING,
                Column("planted_id", "int32", "number of the planted concept"),
                KIND,
                CONCEPT,
                Column(
                    "cosine", "float64", "of the code's direction and the concept's, mean over models that have it"
                ),
                Column("agreed", "bool", "matches by direction are found at one index in all models that have it"),
                Column("firing_entropy", "float64", "see table concepts"),
                Column(
                    "cofire_proportion", "float64", "smallest over models, see `universality` in table concepts"
                ),
                Column("lift", "float64", "see table concepts"),
                Column(
                    "p",
                    "float64",
                    "chance of as many co-fires when images are re-paired between models, tokens in their places;"
                    " null when dead in some model",
                    denominator="re-pairings + 1",
                ),
            ),
        ),
        Table(
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
                Column(
                    "repeat_others", "float64", "the same with start 0 of the other targets of this kind, mean"
                ),
            ),
        ),
        Table(
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
            path="data/maximised/curves.parquet",
        ),
    )
}


def write_table(name: str, frame: pd.DataFrame, path: Path) -> None:
    """Validate `frame` against table `name` and write it as Parquet, in one go and byte-identical on a rerun.

    Columns are put in declared order; NaN becomes null. Raises UserError, listing every fault, when columns
    are missing or undeclared, or hold values that the declared type cannot.
    """
    declared = TABLES[name]
    table = pa.Table.from_arrays(_arrays(declared, frame), schema=declared.schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial, compression="zstd")
    os.replace(partial, path)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of `reports/`; UserError when it is absent."""
    if not path.is_file():
        raise UserError(f"Expected the table {path}, found none. Run `dvc repro` to write it.")
    return pd.read_parquet(path)


def no_rows(name: str) -> pd.DataFrame:
    """Table `name` where there is nothing to measure."""
    return pd.DataFrame({column.name: pd.Series(dtype=object) for column in TABLES[name].columns})


def describe(tables: Sequence[Table] = tuple(TABLES.values())) -> str:
    """The text of `reports/README.md`: every table and column."""
    return "\n".join([README_HEAD, *(_section(table) for table in tables)])


def _arrays(declared: Table, frame: pd.DataFrame) -> list[pa.Array]:
    names = [column.name for column in declared.columns]
    faults = [f"The column `{name}` is missing." for name in names if name not in frame.columns]
    faults += [f"The column `{name}` is not declared." for name in frame.columns if name not in names]
    arrays = []
    for column in declared.columns:
        if column.name not in frame.columns:
            continue
        try:
            arrays.append(pa.Array.from_pandas(frame[column.name], type=column.field.type, safe=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as fault:
            found = frame[column.name].dtype
            faults.append(f"The column `{column.name}` should be {column.dtype}, found {found}: {fault}.")
    if faults:
        raise UserError.listing(f"The table `{declared.name}` does not match usae/tables.py:", faults)
    return arrays


def _section(table: Table) -> str:
    head = f"## {table.file}\n\nTable `{table.name}`. One row is {table.row}.\n"
    lines = ["| column | type | unit | meaning | denominator |", "|---|---|---|---|---|"]
    for column in table.columns:
        meaning = column.meaning.replace("|", "\\|")
        cells = (f"`{column.name}`", column.dtype, column.unit, meaning, column.denominator)
        lines.append(f"| {' | '.join(cells)} |")
    return head + "\n" + "\n".join(lines) + "\n"
