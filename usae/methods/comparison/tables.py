"""Tables of stage `compare`: every method beside its floors, in the same measures."""

from usae.common.columns import CONCEPT, MODEL
from usae.common.tables import Column, Table
from usae.evidence.metrics.contrast.tables import CONTROL_CONCEPTS
from usae.evidence.metrics.measure.tables import FUNNEL

METHOD = Column("method", "string", "usae, the name under `methods` in params.yaml, or a bound")
FORM = Column(
    "form",
    "string",
    "how it is read or fitted where there are several ways: hub-SLUG, hungarian, mutual, masked, calibrated,"
    " refitted, ridge, ...; null: the only one",
)
METHOD_RUN = Column(
    "run",
    "string",
    "run; twin: the same on as few images and epochs as the nulls and other starts, where they have fewer; start:"
    " before its first step, or fitted on SAEs that are; shuffled: trained or fitted on re-paired"
    " images; untrained: on networks with random weights; seed-N: from another start",
)
OF_METHOD = (METHOD, FORM, METHOD_RUN)

METHODS = Table(
    "methods",
    "one measure of one method, in one of its forms and runs, all on the same held-out images",
    (
        Column(
            "block",
            "string",
            "bounds: not a method, a floor or a ceiling; without training; joint: trained on all models together"
            " by this run's recipe; as published: by the authors' own recipe",
        ),
        *OF_METHOD,
        Column(
            "mode",
            "string",
            "what a token's codes are made from: single: one model alone; others: all models but the target;"
            " joint: all of them, so the target is seen; null where it does not apply",
        ),
        Column("source", "string", "slug of the encoded model, for r2 in mode single; null: none or several"),
        Column("target", "string", "slug of the reconstructed model, for r2; null for means over models"),
        Column(
            "measure",
            "string",
            "r2: about the channel means; r2_self_mean, r2_cross_mean, r2_mean (modes others, joint): means over"
            " models; alive to shared: concepts that pass the funnel up to that step (table method_funnel);"
            " label_auc: of the best concept of a label; l0: codes above 0 per token; parameters: trained numbers;"
            " steps: updates in training; encoder_updates: those that move one model's encoder; gflop: products of"
            " encoders and decoders in training, but for those that revive dead concepts;"
            " retrieval_...: an atlas's concepts in other models, retrieval_label_...: those that labels find,"
            " steering_...: what a push along these does to labels' readouts (docs/other_methods.md, `atlas`);"
            " comes_back_share, correlation_mean, jaccard_mean, cosine_mean: of its concepts in its other starts,"
            " mean over these, as in table controls, and absent where there are none; judged: of how many"
            " concepts; further ones as in table summary",
        ),
        Column("value", "float64", "the number"),
        Column("low", "float64", "lower end of its 95 % interval over held-out images; null where not resampled"),
        Column("high", "float64", "upper end, likewise"),
        Column("null", "float64", "with one model's images re-paired, the one that costs least; null: not asked"),
    ),
)

METHOD_CONCEPTS = Table(
    "method_concepts",
    "one concept of one method: what the funnel asks of it",
    (*OF_METHOD, *(column for column in CONTROL_CONCEPTS.columns if column.name not in ("run", "start"))),
)

METHOD_FUNNEL = Table(
    "method_funnel",
    "one step that a shared concept has to pass, asked of one method",
    (*OF_METHOD, *(column for column in FUNNEL.columns if column.name not in ("run", "start", "level"))),
)

METHOD_SHARING = Table(
    "method_sharing",
    "one latent of a crosscoder in one model: does the dictionary share it?",
    (
        METHOD,
        METHOD_RUN,
        CONCEPT,
        MODEL,
        Column(
            "relative_norm",
            "float64",
            "norm of the latent's row over the model's gain, as a share of the sum over models",
        ),
        Column(
            "nu_eps",
            "float64",
            "latent scaling of the error: how strongly the model's activations still hold the latent where its own"
            " share is given back, over the strongest model; less the value on re-paired images",
        ),
        Column("nu_r", "float64", "the same of the reconstruction: how strongly it is written, by any latent"),
        Column("fires", "int64", "tokens on which it fires, read from this model alone", "tokens"),
    ),
)
