"""Every method that is trained finds concepts that were planted, and on re-paired images joins none.

The bounds leave room: here the least of all methods has 1 found, .9 agreed and .9 tracked.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from usae.activations.sampling import open_paired
from usae.common.variant import Variant
from usae.evidence.planted.recovery import Matches
from usae.evidence.planted.trial import CPU, Trial, write_stores
from usae.evidence.planted.world import SHARED
from usae.sae.estimator import Estimator
from usae.training.loop.loop import Result, RunOptions, train

METHODS = (
    "universal", "usae_all", "archetypal", "sparc_local", "sparc", "sparc_even", "crosscoder_unit", "crosscoder",
    "crosscoder_masked", "crosscoder_dedicated", "crosscoder_l1", "batch_top_k", "matryoshka",
)  # fmt: skip
DEDICATED = "crosscoder_dedicated"
WORLD = {"widths": (16, 20, 24), "grid": 4, "shared": 10, "pairwise": 1, "private": 3, "twins": 1}
SIZE = {"train": 96, "val": 64, "dictionary": 48, "levels": None, "k": 4, "epochs": 2, "batch_images": 16}
OWN = 2  # dedicated concepts of each model, 5 % of the dictionary

Key = tuple[str, str]


@pytest.fixture(scope="module")
def trial(module_params) -> Trial:
    world = module_params.planted.world.model_copy(update=WORLD)
    planted = module_params.planted.model_copy(update={**SIZE, "world": world})
    return Trial.draw(module_params.model_copy(update={"planted": planted}), 0)


@pytest.fixture(scope="module")
def trained(trial, tmp_path_factory) -> Mapping[Key, Result]:
    root: Path = tmp_path_factory.mktemp("planted")
    manifests = write_stores(trial.world, SIZE["train"], root)
    keys = [(method, pairs) for method in METHODS for pairs in ("matched", "shuffled")]
    variants = {key: Variant(SIZE["k"], 0, key[1], method=key[0]) for key in keys}
    return train(variants, manifests, open_paired(manifests, root), trial.recipe, RunOptions(CPU), seed=0)


def matches(trial: Trial, sae: Estimator) -> Matches:
    return trial.matches(sae, trial.encoded(sae))


@pytest.mark.parametrize("method", METHODS)
def test_shared_concepts_are_found_at_one_number_and_read_from_each_model_alone(trial, trained, method):
    found, shared = matches(trial, trained[method, "matched"].sae), trial.world.kinds == SHARED
    assert found.found[:, shared].mean() >= 0.9
    assert found.agreed[shared].mean() >= 0.7
    assert found.tracked[shared].mean() >= 0.8


@pytest.mark.parametrize("method", METHODS)
def test_trained_on_re_paired_images_none_is_joined(trial, trained, method):
    found, shared = matches(trial, trained[method, "shuffled"].sae), trial.world.kinds == SHARED
    assert found.found[:, shared].mean() > 0.5
    assert not found.agreed[shared].any()
    assert not found.tracked[shared].any()


def test_no_shared_concept_is_read_from_a_code_that_one_model_has_for_itself(trial, trained):
    sae = trained[DEDICATED, "matched"].sae
    first, shared = sae.concepts - OWN * len(sae.models), trial.world.kinds == SHARED
    for place, model in enumerate(sae.models):
        own = np.arange(first, sae.concepts).reshape(len(sae.models), OWN)
        written = sae.dictionary(model).detach().numpy().any(axis=1)
        assert written[own[place]].all()
        assert not np.delete(written[own], place, axis=0).any()
    assert (matches(trial, sae).joint[shared] < first).all()
