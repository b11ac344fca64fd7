import logging
import os

import pytest

from usae.common.files.whole import size_text
from usae.common.runtime import memory
from usae.common.runtime.memory import free_memory, with_room


def test_free_memory_is_some_of_the_machines():
    assert 1 << 20 < free_memory() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_linux_can_read_anew_counts_as_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    free = free_memory()
    memory.MEMINFO.write_text(f"MemTotal: 9 kB\nMemAvailable: {1 << 40} kB\n")
    assert free < free_memory() == 1 << 50


@pytest.mark.parametrize(("each", "room"), [(0, 4), (25, 4), (26, 3), (50, 2), (51, 1), (101, 1)])
def test_no_more_processes_than_have_room_and_one_at_least(monkeypatch, caplog, each, room):
    monkeypatch.setattr(memory, "free_memory", lambda: 100)
    with caplog.at_level(logging.INFO):
        assert with_room(4, each) == room
    said = f"{room} at once in place of 4: {size_text(each)} each, 100B free"
    assert caplog.messages == ([said] if room < 4 else [])
