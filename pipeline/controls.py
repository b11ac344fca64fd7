"""Stage `controls`: SAEs that show what the universal one's numbers are worth, trained side by side.

Each to `data/controls/NAME/`: other seeds, halves of the images, re-paired images, networks with random
weights, the independent SAE of each model, and where all these learn from less than the run, its twin; each as
it was before its first step, to `data/controls/NAME/start/`.
"""

from pipeline import stage
from usae.activations.store.manifests import load_with_untrained
from usae.common.files.whole import write_output
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.runtime.amounts import say_fewer
from usae.common.runtime.ranks import Ranks, launch
from usae.evidence.controls.halves import halves
from usae.evidence.controls.variants import controls, independent
from usae.images.pixels.index import ImageIndex
from usae.training.portion import control_portion, run_portion
from usae.training.stage import save, training_run


@stage
def main(params: Params) -> str:
    """Train all controls in one pass over the activations and save them."""
    layout = Layout()
    if params.quick:
        write_output(layout.controls / "none.txt", f"Controls are {LEFT}.\n".encode())
        return LEFT
    launch(params.runtime.processes, "pipeline.controls")
    manifests = load_with_untrained(layout.manifests, layout.untrained, params.models)
    index = ImageIndex.load(layout.images / "train.parquet")
    variants = controls(params, len(index)) | independent(params)
    portion = control_portion(params, run_portion(params))
    say_fewer("controls.images", portion.images, len(index))
    parts = halves(index.first(portion.images).frame["label"], params.seed)
    with training_run(params, "controls", manifests, variants, halves=parts, portion=portion) as trained:
        if Ranks.current().rank == 0:
            for name, control in trained.items():
                save(control, layout.controls / name)
    losses = (f"{name} {control.log['loss'].iloc[-20:].mean():.3f}" for name, control in trained.items())
    return f"loss {', '.join(losses)}"


if __name__ == "__main__":
    main()
