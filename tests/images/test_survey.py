import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usae.common.errors import UserError
from usae.common.params import ImagesParams
from usae.images.sources.writing import write_images
from usae.images.survey import survey


def settings(source="folder", path=None, train=None, val=None, val_share=0.25):
    return ImagesParams(
        source=source, path=None if path is None else str(path), train=train, val=val, val_share=val_share
    )


@pytest.mark.parametrize("limits", [{}, {"train": 4, "val": 2}])
def test_it_finds_what_the_stage_finds(image_folder, tmp_path, limits):
    params = settings(path=image_folder, **limits)
    counts = write_images(tmp_path / "out", params, seed=0, workers=1)
    seen = survey(params)
    assert seen.sizes == {split: count.readable + count.skipped for split, count in counts.items()}
    assert (seen.classes, seen.unreadable) == (3, 1)
    assert set(seen.sides) == {20}


def test_in_words(image_folder):
    (image_folder / "class0" / "broken.jpg").unlink()
    words = "9 training + 3 held-out images (held out by seed) of 12, 3 classes, shorter side 20 to 20, median 20"
    assert str(survey(settings(path=image_folder))) == words


def test_parquet_is_counted_without_reading_images(tmp_path):
    for name, rows in (("train-0", 5), ("train-1", 2), ("val-0", 3)):
        table = pa.table({"image": [{"bytes": b"not looked at"}] * rows, "label": list(range(rows))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    seen = survey(settings("parquet", tmp_path, train=6))
    assert seen.sizes == {"train": 6, "val": 3}
    assert "the source's own split) of 10" in str(seen)


def test_the_generated_world_has_what_it_is_told():
    assert survey(settings("shapes", train=7, val=2)).sizes == {"train": 7, "val": 2}


def test_what_the_stage_refuses_is_refused(tmp_path, image_folder):
    for params, sentence in (
        (settings(path=tmp_path / "nowhere"), "which is not a folder here"),
        (settings("parquet", tmp_path), "found neither"),
        (settings("shapes"), "makes as many images as it is told"),
    ):
        with pytest.raises(UserError, match=sentence):
            survey(params)
    for file in sorted(image_folder.rglob("*.*"))[1:]:
        file.unlink()
    with pytest.raises(UserError, match="The split train would be empty"):
        survey(settings(path=image_folder))
