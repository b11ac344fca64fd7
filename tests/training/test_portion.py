import pytest

from usae.common.params import parse_params
from usae.training.portion import Portion, control_portion, run_portion


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Portion(None, 6), Portion(None, 6), True),
        (Portion(100, 6), Portion(None, 6), True),
        (Portion(101, 6), Portion(100, 6), True),
        (Portion(99, 6), Portion(None, 6), False),
        (Portion(99, 6), Portion(100, 6), False),
        (Portion(None, 5), Portion(None, 6), False),
    ],
)
def test_two_portions_of_a_hundred_images(one, other, same):
    assert one.is_that(other, 100) == other.is_that(one, 100) == same


def test_controls_learn_as_the_run_does_but_for_what_is_said(raw_params, params):
    run = run_portion(params)
    assert run == Portion(None, params.train.epochs)
    assert control_portion(params, run) == run
    raw_params["controls"] |= {"images": 10, "epochs": 2}
    less = control_portion(parse_params(raw_params), run)
    assert less == Portion(10, 2)
    assert less.recipe(params.train) == params.train.model_copy(update={"epochs": 2})
