"""Tables of stage `measure` about the whole run."""

from usae.common.columns import MODEL, RUN, SPLIT, START, TOKENS
from usae.common.tables import Column, Table

RECONSTRUCTION = Table(
    "reconstruction",
    "one SAE, source model (encoded), target model (reconstructed) and split",
    (
        Column(
            "sae",
            "string",
            "usae; start: the same before its first step; twin: the same, trained as little as the controls,"
            " where they"
            " are trained less; independent: an SAE of the one model alone, its dictionary updated as often (as"
            " the"
            " twin's, where there is one); brief: the same for as many updates of the encoder",
        ),
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
            "r2_channel of the best linear map from source to target (ridge, fitted on all training images):"
            " the ceiling of linear translation; null for train, on which it is fitted",
            denominator="sum of squares about the mean of each channel",
        ),
        Column(
            "r2_rank_k",
            "float64",
            "r2_channel of the best linear map of rank k: what k numbers a token carry, if they are the same k"
            " linear ones for every token; codes choose their k concepts for each token. Null likewise",
            denominator="sum of squares about the mean of each channel",
        ),
        Column(
            "r2_ridge_others",
            "float64",
            "r2_channel of the best linear map to the target from all other models side by side, whatever the"
            " source of the row; null likewise, and for one model alone",
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
)

FUNNEL = Table(
    "funnel",
    "one step that a universal concept has to pass, asked of the run or of one of its controls",
    (
        RUN,
        START,
        Column(
            "level",
            "int8",
            "level of the concepts counted, 1 = coarsest; null: all levels; one level alone is counted of the run"
            " only, and where it has several",
        ),
        Column(
            "step",
            "string",
            "alive: fires; in all models; significant: at least 20 fires in each, and more co-fires than where"
            " any one model is re-paired (q <= 0.05); agreement: all models fire on at least `measure.agreement`"
            " of the fires of each; beyond controls: agreement beyond chance (table control_concepts) above"
            " that of 95 % of the significant concepts of all controls with untrained networks or re-paired"
            " images; stable: comes back in both SAEs of one half of the training images, asked of the run only",
        ),
        Column("concepts", "int32", "concepts that pass it and all steps before it", "concepts"),
        Column("share", "float64", "the same as a share", denominator="alive concepts"),
        Column(
            "agreement_low",
            "float64",
            "10 % quantile of their smallest co-fire proportions (concepts.cofire_proportion_min)",
        ),
        Column("agreement_median", "float64", "median of these"),
        Column("agreement_high", "float64", "90 % quantile of these"),
    ),
)

SUMMARY = Table(
    "summary",
    "one number about the whole run; `a/b` reads: number a of model b, r2/i/j: source i, target j",
    (
        Column("name", "string", "what it is; means and medians are over alive concepts or over models"),
        Column("value", "float64", "its value, six significant digits; NaN where it is not defined"),
    ),
)

PAPER = Table(
    "paper",
    "one number that arXiv 2502.03714 prints, beside this run's",
    (
        Column("where", "string", "figure, table or topic; v1, v2: version of the paper"),
        Column("quantity", "string", "what it is"),
        Column("model", "string", "the paper's model, or source to target; null for means"),
        Column("paper", "float64", "the published number"),
        Column("ours", "float64", "this run's; of one model only where its slug is the paper's, else null"),
        Column(
            "difference",
            "float64",
            "ours less the paper's; null unless slugs of models and the number of held-out images are the paper's",
        ),
        Column("differs", "string", "how the settings differ"),
    ),
)

DEPTH = Table(
    "depth",
    "one ordered pair of models; without rows where no network is read at two layers",
    (
        MODEL,
        Column("network", "string", "slug of the first model that has the same backbone and weights"),
        Column("layer", "string", "the layer that the model reads, as the zoo says"),
        Column("place", "int16", "of this layer among those of the network that are read, 0 = first"),
        Column("other", "string", "slug of another model"),
        Column("other_network", "string", "network, layer and place of the other"),
        Column("other_layer", "string", "see other_network"),
        Column("other_place", "int16", "see other_network"),
        Column("concepts", "int32", "concepts that fire on at least 20 tokens in both", "concepts"),
        Column(
            "agreement",
            "float64",
            "co-fires over the fires of the model with more, mean over these concepts; the same in both orders",
            denominator="concepts",
        ),
        Column(
            "shared",
            "float64",
            "share of these concepts whose agreement is at least `measure.agreement`",
            denominator="concepts",
        ),
        Column("lift", "float64", "median of their lifts (see concept_pairs); 1 = chance"),
    ),
)
