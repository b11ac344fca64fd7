"""Tables of known labels (stage `measure`)."""

from usae.common.columns import CONCEPT, MODEL
from usae.common.tables import Column, Table

PROBES = Table(
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
)

CONCEPT_LABELS = Table(
    "concept_labels",
    "one concept and one of the at most three labels that name it best: those of the largest IoU on the held-out"
    " images with even numbers, of the labels that are more frequent on its fires than elsewhere. All numbers are"
    " of the images with odd numbers, models summed",
    (
        CONCEPT,
        Column("rank", "int16", "place of the label, from 0"),
        Column("label", "string", "name of the label"),
        Column("precision", "float64", "fires on tokens with the label", denominator="fires of the concept"),
        Column(
            "recall",
            "float64",
            "fires on tokens with the label",
            denominator="tokens with the label, each once per model",
        ),
        Column(
            "iou",
            "float64",
            "fires on tokens with the label",
            denominator="fires, and tokens with the label that it misses",
        ),
        Column("base", "float64", "tokens with the label", denominator="labelled tokens"),
    ),
)

LABEL_CONCEPTS = Table(
    "label_concepts",
    "one label and one model: the concept whose fires overlap most with the label's tokens. It is chosen on the"
    " held-out images with even numbers; all other columns are of those with odd numbers. Labels of one half only"
    " are left out",
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
        Column("auroc", "float64", "chance that its code is larger on a token with the label; 0.5 = chance"),
        Column("present", "int64", "tokens with the label", "tokens"),
        Column("tokens", "int64", "labelled tokens", "tokens"),
    ),
)

LABEL_PROBES = Table(
    "label_probes",
    "one label and one model: the concept whose code alone tells images with the label from others best. The"
    " candidates are chosen on training images, the best of them on validation images",
    (
        MODEL,
        Column("label", "string", "name of the label"),
        CONCEPT,
        Column("log_loss", "float64", "of test images, lower is better, 0.693 = chance", "nats", "n"),
        Column("positives", "int32", "test images with the label, half of them", "images"),
        Column("n", "int32", "test images", "images"),
    ),
)
