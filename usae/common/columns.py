"""Columns that tables of several stages share."""

from usae.common.tables import Column

CONCEPT = Column("concept_id", "int32", "number of the concept, row of every dictionary")
MODEL = Column("model", "string", "slug of the model")
SPLIT = Column("split", "string", "val (held out) or train (the encoded part of the training images)")
TOKENS = Column("tokens", "int64", "tokens measured", "tokens")
RUN = Column(
    "run",
    "string",
    "usae: the run itself; twin: the same on as few images and epochs as the controls, where they have fewer;"
    " seed-N: from another start; half-N: trained on one half of the images; shuffled: on re-paired images;"
    " shuffled-SLUG: on images of which this model's alone are re-paired; untrained: all networks with random"
    " weights; untrained-SLUG: this one alone; k-N: another k",
)
START = Column("start", "bool", "the SAE before its first step")
