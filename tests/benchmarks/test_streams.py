import yaml

from benchmarks.streams import ROOT, streams
from usae.common.params import parse_params


def test_sixteen_models_are_eight_layers_of_two_networks():
    params = parse_params(streams(yaml.safe_load((ROOT / "params.yaml").read_text()), 8))
    assert len(params.models) == 16
    assert len({params.zoo[model].backbone.timm for model in params.models}) == 2
    assert [params.zoo[model].layer for model in params.models] == [*range(8), *range(8)]
