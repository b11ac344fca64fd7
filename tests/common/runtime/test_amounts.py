"""Fewer images than a parameter asks for: one line, and none where there are enough."""

import pytest

from usae.common.runtime.amounts import fewer, say_fewer


@pytest.mark.parametrize("asked", [None, 5, 9])
def test_enough_images_are_no_news(asked):
    assert fewer("encode.train_images", asked, 9) is None


def test_fewer_images_than_asked_for_are_said_once_by_several_processes(caplog, monkeypatch):
    caplog.set_level("INFO", "usae")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        say_fewer("ood.most", 300, 108, "other")
    assert caplog.messages == ["`ood.most` asks for 300, but there are 108 other images: all of them are taken."]
