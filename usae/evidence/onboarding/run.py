"""Stage `onboarding` from its parameters: an SAE of all models but one is trained, and that one joins it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import pandas as pd

from usae.activations.store import store_root
from usae.activations.store.manifests import Manifest, check_paired, load_manifests
from usae.common.layout import START, Layout
from usae.common.params import Params
from usae.common.runtime.amounts import say_fewer
from usae.common.runtime.parallel import side_by_side
from usae.common.runtime.progress import progress
from usae.common.tables import no_rows
from usae.common.variant import Variant
from usae.evidence.onboarding.newcomer import fit_bytes
from usae.evidence.onboarding.onboarding import MATCHED, SHUFFLED, UNTRAINED, onboard, open_setup
from usae.evidence.onboarding.tables import ONBOARDING
from usae.sae.estimator import Estimator
from usae.sae.universal import UniversalSAE
from usae.training.portion import control_portion, run_portion
from usae.training.stage import training_run

TRAINED, REPAIRED = "trained", "shuffled"  # dictionaries of the old models, beside START
Asked = tuple[str, Mapping[str, Manifest], tuple[str, ...]]  # dictionary, all models, settings of the newcomer


@contextmanager
def run(params: Params, newcomer: str) -> Iterator[pd.DataFrame]:
    """Table `onboarding`, with `newcomer` left out of training; without rows where there is no other model, and in
    a quick run.

    The SAEs of the other models are trained as the controls are. The block writes the table: the checkpoints of
    the training go when it ends.

    Raises:
        UserError: see `training_run`; or the stores of the models are not of the same images.
    """
    old = [model for model in params.models if model != newcomer]
    if not old or params.quick:
        yield no_rows(ONBOARDING)
        return
    variants = dictionaries(params)
    manifests = load_manifests(Layout().manifests, params.models)
    untrained = Manifest.load(Layout().untrained / f"{newcomer}.json")
    check_paired({**manifests, untrained.model: untrained}, whole=True)
    there, asked = manifests[newcomer].train.images, params.interventions.onboarding_images
    say_fewer("interventions.onboarding_images", max(asked), there)
    stores, portion = {model: manifests[model] for model in old}, control_portion(params, run_portion(params))
    with training_run(params, "onboarding", stores, variants, portion=portion) as trained:
        saes = {TRAINED: trained[TRAINED].sae, START: trained[TRAINED].start, REPAIRED: trained[REPAIRED].sae}
        yield _table(saes, manifests, {**manifests, newcomer: untrained}, params)


def dictionaries(params: Params) -> dict[str, Variant]:
    """What is trained of the old models, by name."""
    return {
        TRAINED: Variant(params.k, params.seed, params.train.pairs),
        REPAIRED: Variant(params.k, params.seed, "shuffled"),
    }


def _table(
    saes: Mapping[str, Estimator],
    manifests: Mapping[str, Manifest],
    untrained: Mapping[str, Manifest],
    params: Params,
) -> pd.DataFrame:
    """Rows of all settings; `untrained` are the manifests where the newcomer has random weights.

    What a regression finds in dictionaries that have learnt nothing, or nothing in common, is the regression's.
    """
    root, sizes = store_root(params.runtime.store), params.interventions.onboarding_images
    asked: list[Asked] = [
        (TRAINED, manifests, (MATCHED, SHUFFLED)),
        (TRAINED, untrained, (UNTRAINED,)),
        (START, manifests, (MATCHED,)),
        (REPAIRED, manifests, (MATCHED,)),
    ]

    def frame(each: Asked) -> pd.DataFrame:
        name, models, settings = each
        setup = open_setup(cast(UniversalSAE, saes[name]), models, params.train, root)
        return onboard(setup, sizes, params.measure.threshold, settings).assign(dictionary=name)

    device = next(cast(UniversalSAE, saes[TRAINED]).parameters()).device
    width = max(manifest.width for manifest in manifests.values())
    most = fit_bytes(params.train.dictionary, width, max(len(settings) for *_, settings in asked))
    frames = side_by_side(frame, asked, device, most)
    return pd.concat(
        progress(frames, total=len(asked), description="onboarding", unit="setting"), ignore_index=True
    )
