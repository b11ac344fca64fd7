"""Stage `methods`: another method of finding shared concepts, trained on the same activations.

python -m pipeline.methods NAME; its runs to `data/methods/NAME/RUN/`, each as it was before its first step to
`data/methods/NAME/RUN/start/`.
"""

from contextlib import ExitStack

from pipeline import stage
from usae.activations.store.manifests import load_with_untrained
from usae.common.files.whole import write_output
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.methods.runs.variants import method_runs
from usae.training.stage import save, training_run


@stage
def main(params: Params, method: str) -> str:
    """Train all runs of a method, in one pass over the activations for all that learn from the same, and save
    them.
    """
    layout = Layout()
    if params.quick:
        write_output(layout.methods / method / "none.txt", f"Other methods are {LEFT}.\n".encode())
        return LEFT
    manifests = load_with_untrained(layout.manifests, layout.untrained, params.models)
    runs, losses = method_runs(params, method, manifests[params.models[0]].train.images), []
    with ExitStack() as finished:
        for portion, variants in runs.items():
            run = training_run(params, f"methods-{method}", manifests, variants, portion=portion)
            for name, result in finished.enter_context(run).items():
                save(result, layout.methods / method / name)
                losses.append(f"{name} {result.log['loss'].iloc[-20:].mean():.3f}")
    return f"loss {', '.join(losses)}"


if __name__ == "__main__":
    main()
