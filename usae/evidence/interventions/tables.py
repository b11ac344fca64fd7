"""Tables of stage `interventions`."""

from usae.common.columns import CONCEPT
from usae.common.tables import Column, Table
from usae.evidence.interventions.ablation import LEAST_IMAGES

STITCHING = Table(
    "stitching",
    "one way from the images of a source model to the label readout of a target model, on held-out images",
    (
        Column(
            "method",
            "string",
            "what the readout is shown: clean: the target's own activations; usae: their reconstruction from the"
            " source's universal codes; start: the same before the SAE's first step; twin: those of its twin,"
            " where there is one; ridge: their best linear"
            " prediction from the source's activations; independent: their reconstruction from codes of the"
            " source's own SAE, each concept turned into its match in the target's own SAE. Readouts, linear maps"
            " and matches learn from the same training images",
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
)

ABLATION = Table(
    "ablation",
    "one concept taken out of the held-out images in which it fires",
    (
        Column("sae", "string", "usae: the SAE of the run; start: the same before its first step; twin: its twin"),
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
            "1 + mismatches (one model's concept is any other one, the other models keep theirs) that agree as"
            " well; largest over models; null where it is dead in some model",
            denominator="concepts that fire in all models",
        ),
        Column(
            "q",
            "float64",
            f"p after Benjamini and Hochberg, over the concepts that fire in at least {LEAST_IMAGES} images of"
            " every model; null for others",
        ),
        Column("agrees", "bool", "q is at most 0.05; null where q is"),
    ),
)
