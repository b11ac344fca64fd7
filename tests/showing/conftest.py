"""A small finished run, and the page that a test module has `written`, as text and read."""

import pytest

from tests.support.html_page import Page
from tests.support.synthetic_run import synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def text(written):
    return written.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)
