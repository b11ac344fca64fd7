"""Stage `methods`: another method of finding shared concepts, trained on the same activations.

python -m pipeline.methods NAME; its runs to `data/methods/NAME/RUN/`, each as it was before its first step to
`data/methods/NAME/RUN/start/`.
"""

from pipeline import stage
from usae.activations.store.manifests import check_paired, load_manifests
from usae.common.files.whole import write_output
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.methods.runs.variants import method_params, method_variants
from usae.training.stage import save, training_run


@stage
def main(params: Params, method: str) -> str:
    """Train all runs of a method in one pass over the activations and save them."""
    layout, variants = Layout(), method_variants(params, method)
    if params.quick:
        write_output(layout.methods / method / "none.txt", f"Other methods are {LEFT}.\n".encode())
        return LEFT
    manifests = load_manifests(layout.manifests, params.models) | load_manifests(layout.untrained, params.models)
    check_paired(manifests)
    with training_run(method_params(params), f"methods-{method}", manifests, variants) as trained:
        for name, result in trained.items():
            save(result, layout.methods / method / name)
    losses = (f"{name} {result.log['loss'].iloc[-20:].mean():.3f}" for name, result in trained.items())
    return f"loss {', '.join(losses)}"


if __name__ == "__main__":
    main()
