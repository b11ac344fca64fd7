import dataclasses

import numpy as np
import pytest

from usae.activations.store.location import fingerprint
from usae.activations.store.manifests import Manifest, check_paired, load_manifests, load_with_untrained
from usae.common.errors import UserError


@pytest.fixture
def manifest(store):
    return Manifest.generated("a", store)


@pytest.fixture
def store(make_store):
    return make_store("s", np.random.default_rng(0).normal(size=(10, 4, 5)).astype("float16"))


def test_saved_and_loaded(tmp_path, manifest):
    manifest.save(tmp_path / "a.json")
    assert Manifest.load(tmp_path / "a.json") == manifest
    assert load_manifests(tmp_path, ("a",)) == {"a": manifest}


def test_untrained_networks_have_a_stage_of_their_own(tmp_path, manifest):
    control = dataclasses.replace(manifest, model="untrained-a")
    control.save(tmp_path / "untrained" / "a.json")
    assert load_manifests(tmp_path / "untrained", ("a",)) == {"untrained-a": control}
    with pytest.raises(UserError, match=r"There is no manifest at .*b.json; run `dvc repro untrained@b`"):
        load_manifests(tmp_path / "untrained", ("b",))
    (tmp_path / "untrained" / "c.json").write_text("{}")
    with pytest.raises(UserError, match=r"not a whole manifest .* run `dvc repro -f -s untrained@c`"):
        load_manifests(tmp_path / "untrained", ("c",))
    with pytest.raises(UserError, match=r"Run `dvc repro -f -s untrained@a` to extract it again"):
        control.open("train", tmp_path / "elsewhere")


def test_opens_its_store_and_no_other(tmp_path, manifest, store, make_store):
    assert manifest.open("train", tmp_path).path == store.path
    other = make_store("other", np.zeros((10, 4, 5), "float16"))
    wrong = dataclasses.replace(manifest, train=dataclasses.replace(manifest.train, store=other.path.name))
    with pytest.raises(UserError, match=r"(?s)verify --repair .*Chunk 0 has checksum.*Chunk 2 has") as error:
        wrong.open("train", tmp_path)
    assert "is not what the manifest of 'a' describes" in str(error.value)
    assert "then run `dvc repro -f -s extract@a`, which extracts those again" in str(error.value)


def test_a_store_of_another_shape_is_refused(tmp_path, manifest, make_store):
    other = make_store("other", np.zeros((9, 4, 5), "float16"), chunk_images=3)
    wrong = dataclasses.replace(manifest, train=dataclasses.replace(manifest.train, store=other.path.name))
    with pytest.raises(UserError, match=r"images per chunk should be \(10, 5, 4\), found \(9, 5, 3\)"):
        wrong.open("train", tmp_path)


def test_a_lost_store_ends_in_the_command_that_makes_it(tmp_path, manifest):
    with pytest.raises(UserError, match=r"There is no activation store at .*Run `dvc repro -f -s extract@a`"):
        manifest.open("train", tmp_path / "elsewhere")


def test_all_damaged_chunks_are_listed(tmp_path, manifest, store):
    for chunk in (0, 2):
        store.chunk_path(chunk).unlink()
    sentences = (
        r"(?s)damaged. Run `dvc repro -f -s extract@a`: only these .*- Chunk 0 .*no file.*- Chunk 2 .*no file"
    )
    with pytest.raises(UserError, match=sentences):
        manifest.open("train", tmp_path)


def test_every_byte_is_compared_up_to_a_size_or_where_that_is_asked_for(tmp_path, manifest, store, monkeypatch):
    whole = store.chunk_path(1).read_bytes()
    store.chunk_path(1).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    sentences = (
        r"(?s)damaged. Run `usae store verify --repair .*s`, then `dvc repro -f -s extract@a`: only "
        r"these chunks .*- Chunk 1 .* does not match its checksum."
    )
    for said, limit in ((None, 480), ("", 480), ("1", 0)):  # the store has 3 chunks of 160 bytes
        monkeypatch.setattr("usae.activations.store.manifests.VERIFIED", limit)
        monkeypatch.delenv("USAE_VERIFY", raising=False)
        if said is not None:
            monkeypatch.setenv("USAE_VERIFY", said)
        with pytest.raises(UserError, match=sentences):
            manifest.open("train", tmp_path)
    monkeypatch.setenv("USAE_VERIFY", "0")
    manifest.open("train", tmp_path)
    monkeypatch.setenv("USAE_VERIFY", "")
    monkeypatch.setattr("usae.activations.store.manifests.VERIFIED", 479)
    manifest.open("train", tmp_path)
    store.chunk_path(1).write_bytes(whole)
    assert manifest.open("train", tmp_path).path == store.path


def test_models_that_do_not_belong_together_are_named_aspect_by_aspect(manifest):
    images = dataclasses.replace(manifest.val, images=9)
    other = dataclasses.replace(manifest, model="b", grid=3, fit="center", val=images)
    with pytest.raises(UserError) as error:
        check_paired({"a": manifest, "b": other})
    text = str(error.value)
    assert "held-out images: a (10, 'generated'), b (9, 'generated')" in text
    assert "grid: a 2, b 3" in text
    assert "fit: a squash, b center" in text
    assert "training images" not in text
    assert "dvc repro extract" in text


def test_an_untrained_network_may_have_the_first_training_images_alone(tmp_path, manifest):
    few = dataclasses.replace(manifest.train, images=8, images_digest="generated[:8]", crc32c=("", ""))
    control = dataclasses.replace(manifest, model="untrained-a", train=few)
    folders = tmp_path / "manifests", tmp_path / "untrained"
    manifest.save(folders[0] / "a.json")
    control.save(folders[1] / "a.json")
    assert load_with_untrained(*folders, ("a",)) == {"a": manifest, "untrained-a": control}
    with pytest.raises(UserError, match=r"training images: a \(10, 'generated'\), untrained-a \(8, 'generated"):
        check_paired({"a": manifest, "untrained-a": control})
    elsewhere = dataclasses.replace(control, train=dataclasses.replace(few, images_digest="other[:8]"))
    elsewhere.save(folders[1] / "a.json")
    with pytest.raises(UserError, match="training images: a generated, untrained-a other"):
        load_with_untrained(*folders, ("a",))


def test_a_missing_manifest(tmp_path):
    with pytest.raises(UserError, match="run `dvc repro extract@a`"):
        Manifest.load(tmp_path / "a.json")


def test_a_torn_manifest(tmp_path, manifest):
    manifest.save(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    without_order = text.replace(' "statistics": "after",\n', "")  # as written before the key was there
    assert without_order != text
    for torn in (text[:100], "{}", text.replace('"grid"', '"grit"'), without_order):
        (tmp_path / "a.json").write_text(torn)
        with pytest.raises(
            UserError, match="is not a whole manifest of this version .* `dvc repro -f -s extract@a`"
        ):
            Manifest.load(tmp_path / "a.json")


def test_fingerprints_ignore_the_order_of_keys_only():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 2, "b": 1})


def test_another_description_of_the_same_store_is_not_replaced(tmp_path, manifest):
    """Else whatever lies there would become right by being described."""
    file = tmp_path / "a.json"
    manifest.refuse_other(file)
    manifest.save(file)
    manifest.refuse_other(file)
    chunks = ("00000000", *manifest.train.crc32c[1:])
    other = dataclasses.replace(manifest, train=dataclasses.replace(manifest.train, crc32c=chunks))
    sentences = r"(?s)Nothing was written: .*verify --repair.*`rm .*a.json`.*Chunk 0 of s has checksum 0000"
    with pytest.raises(UserError, match=sentences):
        other.refuse_other(file)
    dataclasses.replace(other, train=dataclasses.replace(other.train, store="t")).refuse_other(file)
    file.write_text("{")
    other.refuse_other(file)


@pytest.mark.parametrize("damage", ["one checksum less", "another digit"])
def test_a_manifest_that_was_changed_is_refused(tmp_path, manifest, damage):
    file = tmp_path / "a.json"
    if damage == "one checksum less":
        train = dataclasses.replace(manifest.train, crc32c=manifest.train.crc32c[:-1])
        dataclasses.replace(manifest, train=train).save(file)
    else:
        manifest.save(file)
        text = file.read_text()
        place = text.index('"mean": ') + 12
        digit = str((int(text[place]) + 1) % 10)
        file.write_text(text[:place] + digit + text[place + 1 :])
    sentence = (
        r"not a whole manifest of this version \((3 chunks should have|a.json has checksum).*`dvc repro -f -s"
    )
    with pytest.raises(UserError, match=sentence):
        Manifest.load(file)
