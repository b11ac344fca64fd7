import io
import json
import os
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from usae.activations.extraction.extract import extract
from usae.activations.extraction.extractor import Extraction
from usae.backbones.networks.backbone import pin
from usae.backbones.networks.building import build
from usae.common.errors import UserError
from usae.common.params import BackboneParams, ImagesParams
from usae.images.pixels.index import ImageIndex, Record, checked, load_splits
from usae.images.sources.folders import folder_records
from usae.images.sources.shapes.scenes import ATTRIBUTES, scene
from usae.images.sources.splits import split_and_limit
from usae.images.sources.writing import write_images


def settings(source="folder", path=None, train=None, val=None, val_share=0.25):
    return ImagesParams(
        source=source, path=None if path is None else str(path), train=train, val=val, val_share=val_share
    )


def png(seed=0, size=(8, 6), mode="RGB"):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def test_folder_with_classes_is_split_and_its_faults_are_listed(image_folder, tmp_path, caplog):
    counts = write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=2)
    (said,) = [line for line in caplog.messages if "left out" in line]
    assert "'class0/broken.jpg' (no known image format; the file begins with 6e" in said
    assert str(tmp_path / "out") in said
    assert sum(count.readable for count in counts.values()) == 12
    assert sum(count.skipped for count in counts.values()) == 1
    frames = [pq.read_table(tmp_path / "out" / f"{split}.parquet").to_pandas() for split in counts]
    (fault,) = [f for frame in frames for f in frame["fault"].dropna()]
    assert fault == "no known image format; the file begins with 6e 6f 74 20 61 20 70 69"
    assert str(tmp_path) not in fault
    index = load_splits(tmp_path / "out", str(image_folder))["train"]
    assert index.label_names == ("class0", "class1", "class2")
    for i in range(len(index)):
        assert index.label_names[index.frame["label"][i]] == index.frame["key"][i].split("/")[0]
        assert index.open(i).size == (30, 20)


def test_the_first_three_images_that_cannot_be_read_are_named(image_folder, tmp_path, caplog):
    for number in range(5):
        (image_folder / "class1" / f"empty-{number}.jpg").write_bytes(b"")
    write_images(tmp_path / "out", settings(path=image_folder, val_share=0.01), seed=0, workers=2)
    said = " ".join(line for line in caplog.messages if "left out" in line)
    found = re.search(r"(\d) of 1[78] images cannot be read and are left out: ('.*) and (\d) more\. ", said)
    assert int(found[1]) == 3 + int(found[3])
    assert len(re.findall(r"'class\d/\S+' \((?:the file is empty|no known image format[^)]*)\)", found[2])) == 3


def test_linked_class_folders_are_classes_and_loops_end(image_folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("class0", "class1"):
        (linked / name).symlink_to(image_folder / name)
    shutil.copytree(image_folder / "class2", linked / "class2")
    (image_folder / "class0" / "round").symlink_to(linked)
    (image_folder / "class1" / "again").symlink_to(image_folder / "class1")
    (linked / "class2" / "gone.png").symlink_to(tmp_path / "nowhere")
    (found,) = folder_records(linked).values()
    keys = {record.key for record in found}
    assert {key for key in keys if "round" not in key} == {
        *(f"class{number % 3}/{number:02d}.png" for number in range(12)), "class0/broken.jpg", "class2/gone.png",
    }  # fmt: skip
    assert all(key.count("round") <= 1 for key in keys)


def test_files_that_are_no_images_are_counted_and_named(image_folder, caplog):
    for name in ("a.heic", "b.heic", "notes", "list.txt"):
        (image_folder / "class1" / name).write_text("")
    with caplog.at_level("WARNING", logger="usae"):
        (found,) = folder_records(image_folder).values()
    assert len(found) == 13
    (message,) = caplog.messages
    assert (
        "4 files do not end as images do and are passed over: class1/a.heic, class1/b.heic, class1/list.txt, ..."
        in message
    )


def test_the_splits_of_the_source_are_kept(image_folder, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    image_folder.rename(root / "train")
    (root / "validation").mkdir()
    (root / "validation" / "flat.png").write_bytes(png())
    write_images(tmp_path / "out", settings(path=root), seed=0, workers=1)
    splits = load_splits(tmp_path / "out", str(root))
    assert len(splits["train"]) == 12
    assert splits["val"].frame["key"].tolist() == ["flat.png"]
    assert splits["val"].frame["label"].isna().all()


def test_limits_take_prefixes_of_one_random_order(image_folder, tmp_path):
    keys = []
    for train in (3, 6):
        write_images(tmp_path / "out", settings(path=image_folder, train=train), seed=5, workers=1)
        keys.append(load_splits(tmp_path / "out", str(image_folder))["train"].frame["key"].tolist())
    assert keys[1][: len(keys[0])] == keys[0]
    assert keys[1] != sorted(keys[1])


def test_same_images_same_bytes_other_seed_other_order(image_folder, tmp_path):
    digests = []
    for seed in (0, 0, 1):
        write_images(tmp_path / str(seed), settings(path=image_folder), seed=seed, workers=2)
        digests.append(load_splits(tmp_path / str(seed), str(image_folder))["train"].digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_changed_picture_changes_the_digest(image_folder, tmp_path):
    before = {}
    for change in (False, True):
        if change:
            (image_folder / "class0" / "00.png").write_bytes(png(99))
        write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=1)
        splits = load_splits(tmp_path / "out", str(image_folder))
        before[change] = {split: index.digest for split, index in splits.items()}
    assert before[False] != before[True]


def test_parquet_as_hugging_face_writes_it(tmp_path):
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    images = [{"bytes": png(i), "path": None} for i in range(6)]
    table = pa.table({"image": images, "label": [0, 1, 0, 1, 0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "train-00000.parquet")
    pq.write_table(table.slice(0, 2), tmp_path / "in" / "test.parquet")
    counts = write_images(tmp_path / "out", settings("parquet", tmp_path / "in"), seed=0, workers=1)
    assert (counts["train"].readable, counts["val"].readable) == (6, 2)
    index = load_splits(tmp_path / "out", str(tmp_path / "in"))["train"]
    assert index.label_names == ("cat", "dog")
    for i in range(6):
        row = int(index.frame["key"][i].split("/")[1])
        assert index.frame["label"][i] == row % 2
        np.testing.assert_array_equal(index.open(i), Image.open(io.BytesIO(png(row))))


def test_generated_world_keeps_captions_and_truth(tmp_path):
    write_images(tmp_path, settings("shapes", train=5, val=2), seed=3, workers=1)
    splits = load_splits(tmp_path, None)
    truth = np.load(tmp_path / "val_truth.npz")
    assert tuple(truth["names"]) == ATTRIBUTES
    for i in range(2):
        expected = scene(3, 5 + i)
        np.testing.assert_array_equal(splits["val"].open(i), expected.image)
        np.testing.assert_array_equal(truth["coverage"][i], expected.coverage)
        assert splits["val"].frame["caption"][i] == expected.caption


def test_missing_root_empty_root_and_empty_split(tmp_path):
    with pytest.raises(UserError, match=r"which is not a folder here .* .ln -s"):
        write_images(tmp_path / "o", settings(path=tmp_path / "nowhere"), 0, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="There is no image below"):
        write_images(tmp_path / "o", settings(path=tmp_path / "empty"), 0, 1)
    with pytest.raises(UserError, match="The split train would be empty"):
        split_and_limit({"all": [Record("a")]}, {"train": None, "val": None}, 0.5, 0)
    with pytest.raises(UserError, match="expected a Parquet file, or a folder with train"):
        write_images(tmp_path / "o", settings("parquet", tmp_path / "empty"), 0, 1)
    with pytest.raises(UserError, match=r"set `images.train` and `images.val` to numbers"):
        write_images(tmp_path / "o", settings("shapes"), 0, 1)


def test_a_folder_of_broken_pictures_says_so(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "in" / split).mkdir(parents=True)
        (tmp_path / "in" / split / "a.jpg").write_text("no")
    with pytest.raises(UserError, match="None of the 1 images of this split can be read"):
        write_images(tmp_path / "out", settings(path=tmp_path / "in"), 0, 1)


def test_parquet_without_images(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="should have a column `image` that is a struct.*found the columns x"):
        write_images(tmp_path / "o", settings("parquet", tmp_path / "a.parquet"), 0, 1)


def test_an_image_that_vanishes_is_named(image_folder, tmp_path):
    write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=1)
    index = load_splits(tmp_path / "out", str(image_folder))["train"]
    (image_folder / index.frame["key"][0]).unlink()
    with pytest.raises(
        UserError, match=r"was readable when the index was made and is not now.*dvc repro -f images"
    ):
        index.open(0)


def test_no_index(tmp_path):
    with pytest.raises(UserError, match="run `dvc repro images`"):
        ImageIndex.load(tmp_path / "train.parquet")


def index_of(tmp_path, root):
    write_images(tmp_path / "out", settings(path=root), seed=0, workers=2)
    return load_splits(tmp_path / "out", str(root))


def test_bad_files_are_listed_with_a_reason_and_the_good_ones_stay(image_folder, tmp_path):
    whole = png(50)
    (image_folder / "class0" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (image_folder / "class1" / "empty.jpg").write_bytes(b"")
    (image_folder / "class1" / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (image_folder / "class2" / "folder.jpg").mkdir()
    (image_folder / "class2" / "notes.txt").write_text("not listed: its name claims nothing")
    files = []
    for _ in range(2):
        splits = index_of(tmp_path, image_folder)
        files.append([(tmp_path / "out" / f"{split}.parquet").read_bytes() for split in splits])
    assert files[0] == files[1]  # reasons carry no address, time or path of this machine
    frames = [pq.read_table(tmp_path / "out" / f"{split}.parquet").to_pandas() for split in splits]
    faults = {key: fault for frame in frames for key, fault in frame.set_index("key")["fault"].dropna().items()}
    assert faults == {
        "class0/broken.jpg": "no known image format; the file begins with 6e 6f 74 20 61 20 70 69",
        "class0/truncated.png": "OSError: image file is truncated",
        "class1/empty.jpg": "the file is empty",
        "class1/link.jpg": "FileNotFoundError: No such file or directory",
    }
    assert sum(len(index) for index in splits.values()) == 12


def test_a_folder_that_vanishes_while_the_index_is_made_is_no_fault_of_its_images(image_folder, tmp_path):
    records = folder_records(image_folder)["all"]
    image_folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"The folder '.*class0' has gone or is empty.*run the same command again"):
        list(checked(records, 1, "images"))
    image_folder.mkdir()  # an empty mount point
    with pytest.raises(UserError, match="has gone or is empty"):
        list(checked(records, 1, "images"))


def test_a_folder_that_vanishes_after_the_index_was_made_is_named(image_folder, tmp_path):
    index = index_of(tmp_path, image_folder)["train"]
    image_folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="has gone or is empty, though '.*png' was listed in it.*Bring it back"):
        index.open(0)
    (tmp_path / "elsewhere").rename(image_folder)
    assert index.open(0).size == (30, 20)


def test_a_folder_that_vanishes_during_extraction_costs_nothing_that_is_finished(tmp_path, params):
    for number in range(12):  # each in a folder of its own
        folder = tmp_path / "pictures" / f"{number:02d}"
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(png(number))
    splits = index_of(tmp_path, tmp_path / "pictures")
    backbone = BackboneParams(timm="test_resnet", weights="random", size=32)
    pin(backbone, tmp_path / "w", build(backbone))
    settings = params.extract.model_copy(update={"grid": 4, "chunk_images": 3})
    runtime = params.runtime.model_copy(update={"store": str(tmp_path / "activations"), "workers": 1})

    def run():
        root = str(tmp_path / "pictures")
        return extract(Extraction("m", tmp_path / "w", -1, True, tmp_path / "out", root, settings, runtime))

    store = run().open("train", tmp_path / "activations")
    chunks = [store.chunk_path(chunk) for chunk in range(store.chunks)]
    whole = [path.read_bytes() for path in chunks]
    for path in chunks:
        path.unlink()
    last = (tmp_path / "pictures" / splits["train"].frame["key"].iloc[-1]).parent
    last.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="has gone or is empty"):
        run()
    assert [path.is_file() for path in chunks] == [True, True, False]
    (tmp_path / "elsewhere").rename(last)
    run()
    assert [path.read_bytes() for path in chunks] == whole


def test_an_image_that_has_changed_is_not_taken_for_the_indexed_one(image_folder, tmp_path):
    index = index_of(tmp_path, image_folder)["train"]
    (image_folder / index.frame["key"][0]).write_bytes(png(99))
    with pytest.raises(UserError, match="and is not now: the contents of '.*' have changed. Restore it"):
        index.open(0)


def test_an_image_that_has_changed_within_the_index_is_not_decoded(tmp_path):
    """Another picture, whole as it is, under the digest of the first."""
    rows = [{"bytes": png(i), "path": None} for i in range(4)]
    (tmp_path / "source").mkdir()
    for split in ("train", "val"):
        pq.write_table(pa.table({"image": rows}), tmp_path / "source" / f"{split}.parquet")
    write_images(tmp_path / "out", settings("parquet", tmp_path / "source"), seed=0, workers=1)
    index = load_splits(tmp_path / "out", None)["train"]
    assert index.open(0).size == (8, 6)
    index.frame.at[0, "bytes"] = png(99)
    with pytest.raises(UserError, match="the contents of the index have changed.*run `dvc repro -f images`"):
        index.open(0)


def test_parquet_rows_without_an_image_are_faults(tmp_path):
    rows = [{"bytes": png(i), "path": None} for i in range(4)] + [None, {"bytes": None, "path": "x.jpg"}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "all.parquet")
    counts = write_images(tmp_path / "out", settings("parquet", tmp_path / "all.parquet"), seed=0, workers=1)
    assert sum(count.readable for count in counts.values()) == 4
    assert sum(count.skipped for count in counts.values()) == 2


def test_files_that_are_no_parquet_and_labels_that_are_no_numbers(tmp_path):
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(UserError, match="should be a Parquet file, and is none or is damaged"):
        write_images(tmp_path / "o", settings("parquet", tmp_path / "a.parquet"), 0, 1)
    pq.write_table(pa.table({"image": [{"bytes": png()}], "label": ["cat"]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match="`label` of '.*' should hold class numbers, found string"):
        write_images(tmp_path / "o", settings("parquet", tmp_path / "b.parquet"), 0, 1)


def hugging_face(folder, labels, metadata):
    """A Parquet file with one image per label."""
    table = pa.table({"image": [{"bytes": png(i), "path": None} for i in range(len(labels))], "label": labels})
    folder.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), folder / "train.parquet")
    return settings("parquet", folder)


def named(*names):
    return json.dumps({"info": {"features": {"label": {"names": names}}}})


def test_minus_one_is_no_label(tmp_path):
    """Hugging Face marks unlabelled splits so; as an index it would be the last class."""
    given = hugging_face(tmp_path / "in", [-1, 0, 1, -1, 0, 1, -1, -1], named("cat", "dog"))
    write_images(tmp_path / "out", given, seed=0, workers=1)
    labels = {}
    for index in load_splits(tmp_path / "out", None).values():
        rows = index.frame["key"].str.split("/").str[1].astype(int)
        labels |= dict(zip(rows, index.frame["label"].fillna(-1).tolist(), strict=True))
    assert [labels[row] for row in range(8)] == [-1, 0, 1, -1, 0, 1, -1, -1]
    assert sum(index.frame["label"].isna().sum() for index in load_splits(tmp_path / "out", None).values()) == 4


@pytest.mark.parametrize(
    ("labels", "metadata", "sentence"),
    [
        (
            [0, 1, 2, 3],
            named("cat", "dog"),
            r"2 class names, so labels should be 0 to 1 .*found\n.*label [23]",
        ),
        (
            [0, 2**40, 0, 0],
            "{}",
            "labels should be 0 to 2147483647 .*/00000001' has label 1099511627776",
        ),
    ],
)
def test_labels_without_a_name_are_refused(tmp_path, labels, metadata, sentence):
    given = hugging_face(tmp_path / "in", labels, metadata)
    with pytest.raises(UserError, match=f"(?s){sentence}"):
        write_images(tmp_path / "out", given, seed=0, workers=1)


@pytest.mark.parametrize("metadata", ["not JSON", "[]", '{"info": 3}', named().replace("[]", "null")])
def test_metadata_of_another_form_names_no_classes(tmp_path, metadata):
    write_images(tmp_path / "out", hugging_face(tmp_path / "in", [0, 1, 0, 1], metadata), seed=0, workers=1)
    assert load_splits(tmp_path / "out", None)["train"].label_names == ()


def test_copies_across_the_splits_are_said(image_folder, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="usae"):
        write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=1)
    assert not any("are copies" in line for line in caplog.messages)
    shutil.copytree(image_folder / "class0", image_folder / "class3")
    shutil.copytree(image_folder / "class0", image_folder / "class4")
    with caplog.at_level("WARNING", logger="usae"):
        write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=1)
    splits = load_splits(tmp_path / "out", str(image_folder))
    copies = splits["val"].frame["digest"].isin(splits["train"].frame["digest"]).sum()
    (message,) = [line for line in caplog.messages if "are copies" in line]
    assert message.startswith(f"{copies} of {len(splits['val'])} held-out images are copies of training images")


def test_a_name_that_is_not_utf_8_is_a_fault_that_names_it(image_folder, tmp_path):
    bad = os.fsencode(image_folder / "class0") + b"/bad\xff.png"
    with open(bad, "wb") as file:
        file.write(png())
    counts = write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=1)
    assert sum(count.skipped for count in counts.values()) == 2
    frames = [pq.read_table(tmp_path / "out" / f"{split}.parquet").to_pandas() for split in counts]
    faults = {row["key"]: row["fault"] for frame in frames for _, row in frame.iterrows()}
    assert faults["class0/bad\\xff.png"] == "the file's name is not UTF-8; rename it"


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_damaged_index_is_one_sentence(image_folder, tmp_path, damage):
    write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=1)
    file = tmp_path / "out" / "train.parquet"
    file.write_bytes(file.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(UserError, match=r"train.parquet is damaged .*`dvc repro -f -s images` makes it anew"):
        load_splits(tmp_path / "out", str(image_folder))


def test_a_flipped_label_is_found(image_folder, tmp_path):
    write_images(tmp_path / "out", settings(path=image_folder), seed=0, workers=1)
    file = tmp_path / "out" / "train.parquet"
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    with pytest.raises(UserError, match="train.parquet is damaged"):
        load_splits(tmp_path / "out", str(image_folder))
