"""Stage `baselines@MODEL`: an independent SAE of one model, updated as often as in the universal one."""

from pathlib import Path

from pipeline import checked_model, stage
from usae.manifests import load_manifests
from usae.params import Params
from usae.runtime import configure
from usae.sampling import open_paired
from usae.store import store_root
from usae.training import independent_steps, train


@stage
def main(params: Params, model: str) -> str:
    """Train on MODEL alone and save to `data/baselines/MODEL/`."""
    device = configure(params.runtime)
    manifests = load_manifests(Path("data/manifests"), (checked_model(params, model),))
    data = open_paired(manifests, store_root(params.runtime.store))
    steps = independent_steps(params.train, data.images, len(params.models))
    sae, log = train(
        manifests,
        data,
        params.train,
        k=params.k,
        seed=params.seed,
        device=device,
        steps=steps,
        resident=params.runtime.resident,
    )
    sae.save_pretrained(Path("data/baselines") / model)
    return f"{len(log)} steps, loss {log['loss'].iloc[-20:].mean():.3f}"


if __name__ == "__main__":
    main()
