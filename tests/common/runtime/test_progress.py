import io
import logging

from tqdm import tqdm

from usae.common.runtime.progress import about, advance, counter, reported


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


def test_it_is_silent_without_a_terminal(capsys):
    with counter(10) as bar:
        advance(bar, 10, 1)
    assert capsys.readouterr().err == ""


def test_without_a_terminal_the_log_says_what_is_left(caplog):
    caplog.set_level(logging.INFO, "usae")
    assert list(reported("abc", 3, description="maximise", unit="batches", every=0)) == ["a", "b", "c"]
    assert [record.message for record in caplog.records] == [
        f"maximise: {done} of 3 batches, less than a minute left" for done in (1, 2)
    ]
    assert list(reported("abc", 3, description="maximise", unit="batches")) == ["a", "b", "c"]
    assert len(caplog.records) == 2
    assert about(290) == "about 5 min"
