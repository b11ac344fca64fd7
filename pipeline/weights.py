"""Stage `weights@MODEL`: pin one backbone in `data/weights/MODEL/`. The only stage that may touch the network."""

from pipeline import checked_model, stage
from usae.backbones.weights.obtaining import obtain
from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.device import configure


@stage
def main(params: Params, model: str) -> str:
    """Build the backbone, load or train its weights, pin it, and probe it where the truth is known."""
    configure(params.runtime)
    backbone = params.zoo[checked_model(params, model)].backbone
    identity = obtain(backbone, Layout().weights / model, params.seed)
    return f"{identity.parameters:,} parameters, weights: {identity.weights}"


if __name__ == "__main__":
    main()
