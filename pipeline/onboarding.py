"""Stage `onboarding`: how few images a model needs to join the universal SAE of the others."""

from pathlib import Path
from typing import cast

import pandas as pd

from pipeline import stage
from usae.activations.store import store_root
from usae.activations.store.manifests import Manifest, check_paired, load_manifests
from usae.common.params import Params
from usae.common.tables import no_rows, write_table
from usae.common.variant import Variant
from usae.evidence.onboarding.onboarding import MATCHED, SHUFFLED, UNTRAINED, gathered, onboard
from usae.evidence.onboarding.tables import ONBOARDING
from usae.sae.universal import UniversalSAE
from usae.training.stage import MANIFESTS, training_run

TABLE, RANDOM = Path("reports/onboarding.parquet"), Path("data/untrained")


@stage
def main(params: Params) -> str:
    """Train the SAE of all models but one, add that one, and write `reports/onboarding.parquet`."""
    late = params.interventions.held_out or params.models[-1]
    others = tuple(model for model in params.models if model != late)
    if not others:
        write_table(ONBOARDING, no_rows(ONBOARDING), TABLE)
        return "one model alone joins nobody"
    variants = {"usae": Variant(params.k, params.seed, params.train.pairs)}
    manifests = load_manifests(MANIFESTS, params.models)
    untrained = Manifest.load(RANDOM / f"{late}.json")
    check_paired({**manifests, untrained.model: untrained})
    with training_run(params, "onboarding", {model: manifests[model] for model in others}, variants) as trained:
        frozen, root = cast(UniversalSAE, trained["usae"].sae), store_root(params.runtime.store)
        rounds = {(MATCHED, SHUFFLED): manifests, (UNTRAINED,): manifests | {late: untrained}}
        teams = {settings: gathered(frozen, known, params.train, root) for settings, known in rounds.items()}
        sizes, threshold = params.interventions.onboarding_images, params.measure.threshold
        parts = [onboard(team, sizes, threshold, settings) for settings, team in teams.items()]
        found = pd.concat(parts, ignore_index=True)
        write_table(ONBOARDING, found, TABLE)
    cross = found[(found["setting"] == MATCHED) & (found["source"] != found["target"])]
    by_images = cross.groupby("images")["r2"].mean()
    return f"cross R2 of {late}: " + ", ".join(f"{r2:.2f} from {n} images" for n, r2 in by_images.items())


if __name__ == "__main__":
    main()
