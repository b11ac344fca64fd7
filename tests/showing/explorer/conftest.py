"""The page of a small finished run, drawn once."""

import pytest

from tests.support.synthetic_run import synthetic_run
from usae.showing.explorer import write_report


@pytest.fixture(scope="package")
def drawn(tmp_path_factory):
    """The run, and its page with all figures."""
    run = synthetic_run(tmp_path_factory.mktemp("run"))
    return run, write_report(run, tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def run(drawn):
    return drawn[0]


@pytest.fixture(scope="module")
def written(drawn):
    return drawn[1]
