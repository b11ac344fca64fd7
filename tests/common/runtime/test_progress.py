import io
import logging
import re
import sys
from itertools import count

from tqdm import tqdm

from usae.common.runtime.progress import about, advance, counter, progress, spoken


def test_the_bar_shows_images_and_bytes_a_second_and_the_time_left():
    text = io.StringIO()
    with tqdm(total=100, desc="m train", unit="image", file=text, mininterval=0, ncols=120) as bar:
        for _ in range(4):
            bar.start_t -= 1.0
            advance(bar, 20, 1_000_000)
    last = text.getvalue().split("\r")[-1]
    assert "80/100" in last
    assert "image/s, 20.0 MB/s]" in last
    assert bar.n == 80


def test_what_takes_less_than_a_minute_says_nothing_without_a_terminal(capsys, caplog):
    caplog.set_level(logging.INFO, "usae")
    with counter(10) as bar:
        advance(bar, 10, 1)
    assert list(progress("abc")) == ["a", "b", "c"]
    assert (capsys.readouterr().err, caplog.messages) == ("", [])


def test_without_a_terminal_the_log_has_a_line_now_and_then(caplog):
    caplog.set_level(logging.INFO, "usae")
    bar = progress(range(8), total=8, description="train", unit="step", every=0)
    for step in bar:
        bar.set_postfix_str(f"loss {step}", refresh=False)
    assert re.fullmatch(r"train: 4 of 8, [\d.]+step/s, loss 3, 00:00 left", caplog.messages[4])
    assert len(caplog.messages) == 9  # the first before the first step


def test_a_line_a_minute_is_no_more_than_that(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "usae")
    bar = progress(range(300), total=300, description="encode", unit="image")
    started = bar._time()
    clock = iter(range(0, 10_000))  # a second a look
    monkeypatch.setattr(bar, "_time", lambda: started + next(clock))
    for _ in bar:
        pass
    assert 3 <= len(caplog.messages) <= 6


def test_short_bars_of_a_stage_share_the_minute(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "usae")
    clock = count(1_000_000, 10)  # ten seconds a look, of which a bar of one step takes some
    for module in ("time.time", "tqdm.std.time"):
        monkeypatch.setattr(module, lambda: next(clock))
    with spoken():
        for number in range(100):
            assert list(progress("a", description=f"bar {number}")) == ["a"]
    seconds = next(clock) - 1_000_000
    assert seconds / 60 / 3 < len(caplog.messages) <= seconds / 60
    said = len(caplog.messages)
    for number in range(100):
        assert list(progress("a", description=f"bar {number}")) == ["a"]
    assert len(caplog.messages) == said


def test_rate_and_time_left_are_those_of_the_bar_whenever_the_last_line_was(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "usae")
    now = [1_000_000.0]
    for module in ("time.time", "tqdm.std.time"):
        monkeypatch.setattr(module, lambda: now[0])
    with spoken():
        now[0] += 600
        for _ in progress("abcd", total=4, description="bar", unit="step"):
            now[0] += 30
    assert caplog.messages[:2] == ["bar: 1 of 4, 30.00s/step, 01:30 left", "bar: 3 of 4, 30.00s/step, 00:30 left"]


def test_lines_of_bars_inside_bars_hold_nothing_but_text(caplog):
    caplog.set_level(logging.INFO, "usae")
    for _ in progress("ab", description="outer", every=0):
        assert list(progress("abc", description="inner", every=0)) == ["a", "b", "c"]
    assert {message.split(":")[0] for message in caplog.messages} == {"outer", "inner"}
    assert "\x1b" not in "".join(caplog.messages)


def test_of_several_processes_one_shows(caplog):
    caplog.set_level(logging.INFO, "usae")
    assert list(progress("abc", shown=False, every=0)) == ["a", "b", "c"]
    assert caplog.messages == []


def test_a_terminal_has_a_bar_and_the_log_no_line(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "usae")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress("abc", total=3, description="maximise", unit="batch")) == ["a", "b", "c"]
    assert "maximise:   0%" in terminal.getvalue()
    assert caplog.messages == []


def test_about():
    assert about(290) == "about 5 min"
    assert about(50) == "less than a minute"
