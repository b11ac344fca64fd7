"""Columns that tables of several stages share."""

from usae.common.tables import Column

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
