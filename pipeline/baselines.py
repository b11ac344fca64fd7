"""Stage `baselines@MODEL`: an independent SAE of one model, updated as often as in the universal one."""

from pathlib import Path

from pipeline import checked_model, stage
from usae.params import Params
from usae.runs import training_run
from usae.training import Variant


@stage
def main(params: Params, model: str) -> str:
    """Train on MODEL alone and save to `data/baselines/MODEL/`."""
    variants = {model: Variant(params.k, params.seed)}
    with training_run(params, f"baseline-{model}", (checked_model(params, model),), variants) as trained:
        trained[model].sae.save_pretrained(Path("data/baselines") / model)
        log = trained[model].log
    return f"{len(log)} steps, loss {log['loss'].iloc[-20:].mean():.3f}"


if __name__ == "__main__":
    main()
