"""What the page of methods says in words: of blocks, methods, modes, and of what this run can show."""

from usae.showing.comparison.verdicts import CROSS, LEAST_SEEDS, SHARED, beyond_start
from usae.showing.figures.theme import explained
from usae.showing.results.compared import (
    ALL,
    BOUNDS,
    FITTED,
    JOINT,
    OTHERS,
    PUBLISHED,
    SINGLE,
    Compared,
    ComparedMethod,
)

BLOCK_TEXTS = {
    BOUNDS: "floors and ceilings, not methods: dense maps without concepts",
    FITTED: "fitted on finished networks or on SAEs of one model each",
    JOINT: "trained on all models together, by the recipe of this run",
    PUBLISHED: "by the authors' own recipe, made for far more steps: not to be compared with the other blocks",
}
METHOD_TEXTS = {
    "linear": "a dense linear map between models",
    "matched": "an SAE of each model, concepts paired afterwards",
    "hub": "one model's SAE, all models read into it by ridge",
    "atlas": "one model's SAE, activations mapped to that model",
    "rosetta": "channels that correlate between models",
    "kmeans": "clusters of tokens, over all models at once",
    "usae": "one dictionary, each token read from one model",
    "usae_all": "usae, each token read from every model",
    "sparc_local": "every token read from every model, others weigh less",
    "sparc": "all models choose a token's concepts together",
    "sparc_even": "the same, all models weigh alike",
    "sparc_published": "SPARC by its authors' recipe",
    "crosscoder_unit": "one code of all models, unit rows",
    "crosscoder": "one code of all models, free norms",
    "crosscoder_masked": "crosscoder, trained on random parts of the models",
    "crosscoder_dedicated": "crosscoder, some concepts of each model alone",
    "crosscoder_l1": "crosscoder, a penalty on codes chooses",
    "batch_top_k": "usae, the largest codes of a batch",
    "matryoshka": "usae, coarse concepts nested in finer ones",
    "archetypal": "usae, concepts are mixtures of the same tokens",
}
FORM_TEXTS = {
    "ridge": "by ridge regression",
    "rank-": "the best one of this rank",
    "mcca-": "through coordinates that all models have in common",
    "hungarian": "one to one",
    "mutual": "those that are each other's nearest",
    "masked": "the other models count as their means",
    "calibrated": "each concept stretched to what it lacks",
    "refitted": "encoders by ridge: compare with their own floors only",
    "procrustes": "by rotation",
    "cliques": "nearest in every pair of models",
    "published": "by the paper's rule",
}
MODE_LABELS = {SINGLE: "one model", OTHERS: "all but the target", ALL: "all, the target too"}
MODE_TEXTS = {
    SINGLE: "Single: codes are made from one model, and the target was not looked at. This is the headline; its "
    "ceiling is the best linear map from that one model.",
    OTHERS: "Others: codes are made from all models but the target, so this still is a translation. Its ceiling "
    "is the best linear map from all of them side by side.",
    ALL: "Joint: the target itself is among the models that are read. This is an autoencoder of all models and no "
    "translation: a method that translates nothing can score high here. A win here is no win.",
}


def summary(compared: Compared) -> list[str]:
    """The table in sentences: what explains most of another model, and what shares most beyond its floors."""
    found = [_explains(compared), _shares(compared)]
    return [sentence for sentence in found if sentence]


def standing(compared: Compared) -> str:
    """Whether differences in this run can be called anything."""
    enough = [each for each in compared.methods if len(compared.seeds(each, CROSS)) >= LEAST_SEEDS]
    others = [each.label for each in enough if each.block != BOUNDS and each != compared.reference]
    if compared.reference in enough and others:
        return f"{LEAST_SEEDS} seeds or more, so judged in the last column: {', '.join(others)}, beside usae."
    lacking = "no other method has" if compared.reference in enough else "the universal SAE has not"
    return (
        f"In this run {lacking} the {LEAST_SEEDS} seeds that are asked for. So every difference below is an "
        "indication, and none is called better."
    )


def without_evidence(compared: Compared) -> str:
    """Which methods share no more concepts than their own start; nothing where each does."""
    below = [each.label for each in compared.methods if beyond_start(compared, each) is False]
    if not below:
        return ""
    return f"In this run that is so for {', '.join(below)}."


def described(method: ComparedMethod) -> str:
    """What the method does, and what its form is, in a line."""
    form = next((text for name, text in FORM_TEXTS.items() if method.form.startswith(name)), "")
    return "; ".join(text for text in (METHOD_TEXTS.get(method.method, ""), form) if text)


def budget(compared: Compared, method: ComparedMethod) -> str:
    """Where a method was trained for other steps than the universal SAE: how many."""
    reference = compared.reference
    steps = [compared.value(each, "steps") for each in (method, reference) if each]
    if len(steps) < 2 or not abs(steps[0] - steps[1]) > 0:
        return ""
    return f"{steps[0]:,.0f} steps; usae: {steps[1]:,.0f}"


def _explains(compared: Compared) -> str:
    methods = [each for each in compared.methods if each.block in (FITTED, JOINT)]
    measured = [each for each in methods if compared.across(each) == compared.across(each)]
    if not measured:
        return ""
    best = max(measured, key=compared.across)
    text = (
        f"From the codes of one model, {best.label} explains most of another: {explained(compared.across(best))}"
    )
    reference = compared.reference
    if reference and reference != best:
        text += f", usae {explained(compared.across(reference))}"
    ceiling = compared.ceiling()
    return f"{text}; the best linear map {explained(ceiling)}." if ceiling == ceiling else f"{text}."


def _shares(compared: Compared) -> str:
    beyond = {each: compared.value(each, SHARED) - compared.floor(each) for each in compared.methods}
    known = {each: count for each, count in beyond.items() if count == count and each.block != PUBLISHED}
    if not known or max(known.values()) <= 0:
        return ""
    best = max(known, key=lambda each: known[each])
    text = (
        f"Most concepts beyond its own floors are shared by {best.label}: {compared.value(best, SHARED):,.0f} "
        f"against {compared.floor(best):,.0f}"
    )
    reference = compared.reference
    if reference in known and reference != best:
        text += f"; usae: {compared.value(reference, SHARED):,.0f} against {compared.floor(reference):,.0f}"
    return f"{text}."
