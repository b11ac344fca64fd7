"""Stage `baselines@MODEL`: an independent SAE of one model, updated as often as in the universal one."""

from pipeline import checked_model, stage
from usae.activations.store.manifests import load_manifests
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.seeds import seed_of
from usae.common.variant import Variant
from usae.training.stage import training_run


@stage
def main(params: Params, model: str) -> str:
    """Train on MODEL alone and save to `data/baselines/MODEL/`.

    Its concepts start elsewhere than the universal SAE's: started alike, they would agree for that reason.
    """
    manifests = load_manifests(Layout().manifests, (checked_model(params, model),))
    variants = {model: Variant(params.k, seed_of(params.seed, "independent SAE", model))}
    with training_run(params, f"baseline-{model}", manifests, variants) as trained:
        trained[model].sae.save_pretrained(Layout().baselines / model)
        log = trained[model].log
    return f"{len(log)} steps, loss {log['loss'].iloc[-20:].mean():.3f}"


if __name__ == "__main__":
    main()
