import pytest

from usae.common.params import parse_params
from usae.methods.runs.variants import method_runs, method_variants
from usae.training.portion import Portion

IMAGES = 3000


@pytest.fixture
def asked(raw_params):
    """One further start and the nulls of each method, two epochs."""
    raw_params["methods"] |= {"seeds": 1, "nulls": True, "epochs": 2}
    return raw_params


def test_what_learns_from_the_same_trains_in_one_pass(asked):
    runs = method_runs(parse_params(asked), "sparc", IMAGES)
    assert {portion: list(variants) for portion, variants in runs.items()} == {
        Portion(None, 2): ["run", "seed-1", "shuffled", "untrained"]
    }


def test_a_twin_learns_as_starts_and_nulls_do_where_they_learn_from_less(asked):
    asked["controls"] |= {"images": 500}
    params = parse_params(asked)
    runs = method_runs(params, "sparc", IMAGES)
    assert {portion: list(variants) for portion, variants in runs.items()} == {
        Portion(None, 2): ["run"],
        Portion(500, 2): ["twin", "seed-1", "shuffled", "untrained"],
    }
    variants = method_variants(params, "sparc", IMAGES)
    assert list(variants) == ["run", "twin", "seed-1", "shuffled", "untrained"]
    assert variants["run"] == variants["twin"]


def test_nothing_is_compared_so_nothing_needs_a_twin(raw_params):
    raw_params["controls"] |= {"images": 500}
    assert list(method_variants(parse_params(raw_params), "sparc", IMAGES)) == ["run"]
