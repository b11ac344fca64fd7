"""MACO images, coordinated maximisation with real tiny timm backbones, and the folder that the stage writes."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from usae.activations.store import ActivationStore
from usae.backbones.networks.backbone import Backbone, pin
from usae.backbones.networks.building import build
from usae.common.errors import UserError
from usae.common.params import BackboneParams, MaximiseParams
from usae.common.tables import write_table
from usae.images.pixels.index import ImageIndex, Record, write_index
from usae.sae.universal import UniversalSAE
from usae.showing.maximisation.ascent import Ascent, ascend, crop, draw_crops, own_scores, penalty
from usae.showing.maximisation.directions import concept_directions, random_directions, reduce_tokens
from usae.showing.maximisation.maco import (
    COLOUR,
    decorrelate,
    fallback_spectrum,
    initial_phase,
    magnitude_spectrum,
    render,
    spectrum_of,
)
from usae.showing.maximisation.pictures import picture_path, read_curves, read_picture
from usae.showing.maximisation.real_images import real_scores, run_spectrum, spaced
from usae.showing.maximisation.run import batches_of, kept_paths, paint_all
from usae.showing.maximisation.tables import MAXIMISATION
from usae.showing.maximisation.targets import (
    Maximisation,
    MaximisationTarget,
    MaximisedTarget,
    PaintedTarget,
    load_probe,
    maximise_targets,
    paint_targets,
    targets_at_once,
    targets_of,
)
from usae.showing.maximisation.transfer import (
    curve_table,
    share_above_real_images,
    summary,
    transfer_table,
    write_maximised,
)

SIZE, GRID, CONCEPTS = 32, 4, 24
PARAMS = MaximiseParams(
    rule="funnel",
    concepts=3,
    ids=None,
    also=(),
    starts=2,
    random=1,
    score="mean",
    steps=40,
    crops=2,
    size=SIZE,
    learning_rate=1.0,
    crop_side=(0.5, 0.9),
    noise=0.05,
    spectrum="images",
    total_variation=0.0,
    l2=0.0,
)
SHORT = PARAMS.model_copy(update={"steps": 3})
CHOSEN = [3, 7, 20]
MODELS = ("one", "twin")


def spectrum(size):
    generator = torch.Generator().manual_seed(1)
    return magnitude_spectrum(torch.rand(3, size, size, generator=generator) for _ in range(4))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    torch.manual_seed(0)
    kwargs = {"img_size": SIZE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}
    params = BackboneParams(timm="vit_tiny_patch16_224", kwargs=kwargs, weights="random", size=SIZE)
    folder = tmp_path_factory.mktemp("weights")
    pin(params, folder, build(params))
    return Backbone.load(folder, grid=GRID)


@pytest.fixture(scope="module")
def sae():
    """Two models with the same weights: what differs between their pictures could only come from the draws."""
    torch.manual_seed(1)
    sae = UniversalSAE({"one": 24, "twin": 24}, CONCEPTS, 4)
    sae.parts["twin"].load_state_dict(sae.parts["one"].state_dict())
    return sae.eval()


@pytest.fixture(scope="module")
def probes(sae, backbone):
    targets = targets_of(CHOSEN, PARAMS.random)
    return {model: load_probe(sae, model, backbone, targets, [0.0] * 24, 0) for model in MODELS}


@pytest.fixture(scope="module")
def maximised(probes):
    magnitude = fallback_spectrum(SIZE)
    return maximise_targets(probes, range(len(CHOSEN) + PARAMS.random), magnitude, SHORT, [0, 1], 64)


@pytest.fixture(scope="module")
def maximisation(maximised):
    rng = np.random.default_rng(0)
    real = {model: rng.normal(size=(50, len(maximised))).astype(np.float32) for model in MODELS}
    return Maximisation(targets_of(CHOSEN, PARAMS.random), maximised, real)


def climb(probe, row, params=PARAMS, seeds=(0,)):
    target = probe.directions.take([row])
    ascent = ascend(probe.backbone.tokens, SIZE, target, fallback_spectrum(SIZE), params, list(seeds))
    return Ascent(ascent.images[0], ascent.attribution[0], ascent.curve[0])


@pytest.mark.parametrize("size", [16, 15])
def test_only_the_phase_is_free(size):
    magnitude = spectrum(size)
    phase = torch.randn(5, 3, size, size // 2 + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    image = torch.fft.irfft2(spectrum_of(phase, magnitude), s=(size, size))
    found = torch.fft.rfft2(image)
    colour, wanted = found[..., 0, 0].clone(), magnitude.expand_as(found).clone()
    found[..., 0, 0] = wanted[..., 0, 0] = 0
    torch.testing.assert_close(found.abs(), wanted, rtol=1e-10, atol=1e-9)
    assert (colour.abs() <= magnitude[:, 0, 0] + 1e-9).all()
    assert colour.real.std(dim=0).min() > 0


def test_render_keeps_mean_colour_and_contrast():
    magnitude = spectrum(SIZE)
    phase = initial_phase(SIZE, torch.Generator().manual_seed(3)).double()
    logits = torch.logit(render(phase, magnitude))  # (rgb, rows, columns)
    channels = torch.einsum("rhw,rc->chw", logits, torch.linalg.inv(COLOUR))
    centred = channels - channels.mean(dim=(1, 2), keepdim=True)
    assert centred.square().mean().item() == pytest.approx(1.0, abs=1e-9)
    assert (channels.mean(dim=(1, 2)).abs() <= magnitude[:, 0, 0] / SIZE**2).all()


def test_decorrelate_undoes_the_colours_of_render():
    magnitude = fallback_spectrum(16)
    phase = initial_phase(16, torch.Generator().manual_seed(4)).double()
    channels = torch.fft.irfft2(spectrum_of(phase, magnitude), s=(16, 16))
    pixels = render(phase, magnitude)
    inside = ((pixels > 0.02) & (pixels < 0.98)).all(dim=0)
    torch.testing.assert_close(decorrelate(pixels)[:, inside], channels[:, inside])


def test_spectrum_of_one_image_is_its_own_up_to_scale():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(5))
    ratio = magnitude_spectrum([image]) / torch.fft.rfft2(decorrelate(image)).abs()
    torch.testing.assert_close(ratio, ratio[0, 0, 0].expand_as(ratio))


def test_fallback_falls_with_the_frequency():
    magnitude = fallback_spectrum(64)
    assert magnitude[0, 0, 0] == magnitude[0, 0, 1]
    assert torch.log2(magnitude[0, 0, 8] / magnitude[0, 0, 16]).item() == pytest.approx(1.3)


def test_spectrum_needs_images_with_contrast():
    with pytest.raises(UserError, match="no image was given"):
        magnitude_spectrum([])
    with pytest.raises(UserError, match="every pixel has the same colour"):
        magnitude_spectrum([torch.full((3, 8, 8), 0.5)])


def test_directions_are_the_pre_codes(sae):
    with torch.no_grad():
        sae.parts["one"].encoder.norm.running_var.fill_(2.5)
        sae.parts["one"].mean.fill_(0.3)
        sae.parts["one"].std.fill_(1.7)
        tokens = torch.randn(5, 24, generator=torch.Generator().manual_seed(6))
        found = concept_directions(sae, "one", CHOSEN)(tokens)
        torch.testing.assert_close(found, sae.pre_codes("one", tokens)[:, CHOSEN])
        sae.parts["one"].load_state_dict(sae.parts["twin"].state_dict())


def test_random_directions_are_of_standardised_tokens(sae):
    with torch.no_grad():
        sae.parts["one"].mean.fill_(0.3)
        found = random_directions(sae, "one", 5, torch.Generator().manual_seed(0))
        torch.testing.assert_close(found(torch.full((24,), 0.3)), torch.zeros(5), atol=1e-6, rtol=0)
        sae.parts["one"].load_state_dict(sae.parts["twin"].state_dict())


def test_scores_of_tokens():
    values = torch.arange(16.0).view(1, 16, 1)
    found = [reduce_tokens(values, score).item() for score in ("mean", "max", "centre")]
    assert found == [7.5, 15.0, 10.0]


def test_maximisation_raises_the_score(probes):
    curve = climb(probes["one"], 0, seeds=(0, 1)).curve
    assert curve.shape == (2, PARAMS.steps)
    assert (curve[:, -10:].mean(dim=1) > curve[:, :5].mean(dim=1) + 0.1).all()


def test_penalties_are_means_over_pixels():
    image = torch.zeros(1, 3, 4, 4)
    image[..., 2:] = 1.0
    weigh = {"total_variation": 2.0, "l2": 3.0}
    assert penalty(image, PARAMS.model_copy(update=weigh)).item() == pytest.approx(2 / 3 + 3 / 4)
    assert penalty(image, PARAMS).item() == 0.0


def test_total_variation_makes_smoother_pictures(probes):
    heavy = PARAMS.model_copy(update={"total_variation": 100.0})
    rough, smooth = climb(probes["one"], 0).images, climb(probes["one"], 0, heavy).images
    weigh = PARAMS.model_copy(update={"total_variation": 1.0})
    assert penalty(smooth, weigh).item() < 0.9 * penalty(rough, weigh).item()


def test_models_share_phase_crops_and_noise(maximised):
    for target in maximised[: len(CHOSEN)]:
        assert np.array_equal(target.pictures[0], target.pictures[1])
        assert np.array_equal(target.curves[0], target.curves[1])
    random = maximised[len(CHOSEN)]
    assert not np.array_equal(random.pictures[0], random.pictures[1])


def test_pictures_carry_an_attribution_mask(maximised):
    pictures = maximised[0].pictures
    assert pictures.shape == (2, 2, SIZE, SIZE, 4)
    assert pictures.dtype == np.uint8
    alpha = pictures[..., 3]
    assert alpha.max() == 255
    assert (alpha == 255).mean() == pytest.approx(0.2, abs=0.03)
    assert not np.array_equal(pictures[0, 0], pictures[0, 1])
    assert not np.array_equal(pictures[0, 0], maximised[1].pictures[0, 0])


def test_batch_size_bounds_memory_only(probes, maximised):
    (one_by_one,) = maximise_targets(probes, [0], fallback_spectrum(SIZE), SHORT, [0, 1], 1)
    np.testing.assert_allclose(one_by_one.curves, maximised[0].curves, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("batch", "starts", "targets"), [(64, 2, 3), (8, 2, 2), (4, 2, 1), (1, 2, 1), (64, 9, 1)])
def test_few_targets_are_maximised_at_a_time(batch, starts, targets):
    assert targets_at_once(SHORT.model_copy(update={"starts": starts}), batch) == targets


def test_a_target_is_scored_on_its_own_views():
    values = torch.arange(2 * 2 * 2 * 3 * 2.0).reshape(8, 3, 2)  # (n * starts * crops, t, n)
    found = own_scores(values, "mean", starts=2)
    wanted = [[values[2 * (2 * n + s) : 2 * (2 * n + s) + 2, :, n].mean() for s in range(2)] for n in range(2)]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_every_model_scores_every_picture(probes, maximised):
    target = maximised[1]
    picture = torch.from_numpy(target.pictures[0, 1, ..., :3].copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        values = probes["twin"].directions(probes["twin"].backbone.tokens(picture))[0]  # (tokens, targets)
    np.testing.assert_allclose(target.scores[1, 0, 1], values.mean(dim=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(target.maps[1, 0, 1], values[:, 1], rtol=1e-4, atol=1e-5)


def test_a_painted_target_survives_its_file(maximised, tmp_path):
    maximised[0].painted.save(tmp_path / "3.npz")
    again = PaintedTarget.load(tmp_path / "3.npz")
    assert np.array_equal(again.pictures, maximised[0].pictures)
    assert np.array_equal(again.curves, maximised[0].curves)


def test_batches_are_of_one_kind_and_added_concepts_stand_alone():
    targets = targets_of([3, 7, 20, 5, 6], 3)
    assert batches_of(3, 2, targets, 2) == [
        range(0, 2),
        range(2, 3),
        range(3, 4),
        range(4, 5),
        range(5, 7),
        range(7, 8),
    ]
    assert batches_of(0, 0, [], 2) == []


def test_one_more_concept_makes_no_other_picture_again(probes, maximised, params, tmp_path):
    """What is there is taken, whoever painted it; what is missing is painted with all of its batch, and kept."""
    chosen = params.model_copy(update={"maximise": SHORT})
    targets, magnitude, painted = targets_of(CHOSEN, PARAMS.random), fallback_spectrum(SIZE), maximised[3].painted
    batches = batches_of(2, 1, targets, 2)  # 3 and 7, 20 added, the random direction
    first, added, last = ([targets[row] for row in rows] for rows in batches)
    for path in (*kept_paths(tmp_path, first), *kept_paths(tmp_path, last)):
        painted.save(path)  # another target's: shows whether it is read or painted again
    found = paint_all(chosen, probes, targets, batches, magnitude, tmp_path)
    (again,) = paint_targets(probes, [2], magnitude, SHORT, [0, 1], params.runtime.batch_images)
    for target, wanted in zip(found, [painted, painted, again, painted], strict=True):
        assert np.array_equal(target.pictures, wanted.pictures)
    names = {path.name for group in (first, added, last) for path in kept_paths(tmp_path, group)}
    assert {path.name for path in tmp_path.iterdir()} == names
    kept_paths(tmp_path, first)[0].unlink()
    both = paint_all(chosen, probes, targets, batches, magnitude, tmp_path)[:2]
    assert not any(np.array_equal(target.pictures, painted.pictures) for target in both)


def hand_made():
    """Two concepts, one model, two starts: numbers to be checked by hand."""
    scores = np.array(
        [[[[3.0, 1.0], [5.0, 0.0]]], [[[0.0, 2.0], [0.0, 2.0]]]]
    )  # (target, made for, start, targets)
    mean_tokens = np.array([[[[1.0, 0.0], [0.6, 0.8]]], [[[0.0, 1.0], [0.0, 1.0]]]])
    maximised = [
        MaximisedTarget(
            PaintedTarget(np.zeros((1, 2, 8, 8, 4), np.uint8), np.array([[[0.0, 1.0], [2.0, 3.0]]])),
            scores[n][None],
            np.array([[[[1.0, 2.0], [2.0, 1.0]]]]),
            mean_tokens[n],
        )
        for n in range(2)
    ]
    real = np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0], [2.0, 2.0]])
    return Maximisation(targets_of([3, 7], 0), maximised, {"one": real})


def test_transfer_is_against_real_images_other_targets_and_other_starts():
    table = transfer_table(hand_made())
    assert table["concept_id"].tolist() == [3, 3, 7, 7]
    np.testing.assert_allclose(table["z"] * 2**0.5, [1.0, 3.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(table["z_others"] * 2**0.5, [-1.0, -2.0, -2.0, -2.0], atol=1e-6)
    assert table["percentile"].tolist() == [75.0, 100.0, 25.0, 25.0]
    np.testing.assert_allclose(table["repeat"], [np.nan, 0.6, np.nan, 1.0])
    np.testing.assert_allclose(table["repeat_others"], [0.0, 0.8, 0.0, 0.0])
    assert (table["real_images"] == 4).all()
    assert share_above_real_images(table) == 0.0
    assert share_above_real_images(table.assign(percentile=99.5)) == 1.0
    assert summary(table.assign(percentile=99.5)).startswith(
        "2 concepts; 100% of their pictures beat 99 % of real"
    )


def test_transfer_has_every_pair_of_models(maximisation):
    table = transfer_table(maximisation)
    assert len(table) == 4 * 2 * 2 * 2
    pairs = table[["model", "scored_by"]].drop_duplicates()
    assert len(pairs) == 4
    own = table["model"] == table["scored_by"]
    np.testing.assert_allclose(table.loc[own, "map_correlation"], 1.0, atol=1e-6)
    assert table.loc[~own, "repeat"].isna().all()
    concepts = table[table["kind"] == "concept"].groupby(["concept_id", "start", "model"])["score"]
    assert concepts.std().max() < 1e-6  # the twins agree


def test_crops_depend_on_seed_and_step_alone():
    first, again, later = (draw_crops(0, step, PARAMS, 32) for step in (4, 4, 5))
    assert torch.equal(first.grid, again.grid)
    assert torch.equal(first.noise, again.noise)
    assert not torch.equal(first.grid, later.grid)
    finer = draw_crops(0, 4, PARAMS, 64)
    torch.testing.assert_close(finer.grid.mean(dim=(1, 2)), first.grid.mean(dim=(1, 2)))
    assert first.grid.abs().max() <= 1


def test_crops_are_target_by_target_and_start_by_start():
    images = (torch.arange(4.0) / 4).view(2, 2, 1, 1, 1).expand(2, 2, 3, SIZE, SIZE)
    quiet = PARAMS.model_copy(update={"noise": 0.0, "crop_side": (0.4, 0.5)})
    views = crop(images, [draw_crops(seed, 0, quiet, 16) for seed in range(2)])
    assert views.shape == (4 * PARAMS.crops, 3, 16, 16)
    expected = torch.arange(4.0).repeat_interleave(2) / 4
    torch.testing.assert_close(views.mean(dim=(1, 2, 3)), expected, atol=1e-3, rtol=0)  # 0 beyond the edge


def test_all_targets_have_the_same_views():
    picture = torch.rand(1, 2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    crops = [draw_crops(seed, 0, PARAMS, 16) for seed in range(2)]
    once, twice = crop(picture, crops), crop(picture.repeat(2, 1, 1, 1, 1), crops)
    assert torch.equal(twice, once.repeat(2, 1, 1, 1))


def test_real_scores_are_mean_pre_codes(sae, tmp_path):
    tokens = np.random.default_rng(0).normal(size=(10, GRID * GRID, 24)).astype(np.float16)
    store = ActivationStore.create(tmp_path / "store", tokens.shape, 4, "float16", {})
    for chunk in range(store.chunks):
        store.write(chunk, tokens[store.span(chunk)])
    wanted = sae.pre_codes("one", torch.from_numpy(tokens.astype(np.float32))).mean(dim=1)[:, CHOSEN].detach()
    directions = concept_directions(sae, "one", CHOSEN)
    np.testing.assert_allclose(real_scores(directions, store, "mean"), wanted, rtol=1e-4, atol=1e-5)
    few = real_scores(directions, store, "mean", count=4)
    np.testing.assert_allclose(few, wanted[[0, 3, 6, 9]], rtol=1e-4, atol=1e-5)


def test_spaced_positions():
    assert spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert spaced(3, 100).tolist() == [0, 1, 2]


def test_folder_and_tables_repeat_byte_by_byte(maximisation, tmp_path):
    for name in ("first", "second"):
        write_maximised(tmp_path / name, maximisation)
        write_table(MAXIMISATION, transfer_table(maximisation), tmp_path / name / "maximisation.parquet")
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.*"))
    assert len(files) == 4 * 2 * 2 + 2
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    for target, start in (("7", 1), ("random-0", 0)):
        kept = np.asarray(Image.open(picture_path(tmp_path / "first", target, "twin", start)))
        n = [t.name for t in maximisation.targets].index(target)
        assert np.array_equal(kept, maximisation.maximised[n].pictures[1, start])
    curves = read_curves(tmp_path / "first").query("concept_id == 7 and start == 1 and model == 'twin'")
    np.testing.assert_array_equal(curves["score"], maximisation.maximised[1].curves[1, 1])


def test_nothing_maximised_reads_as_nothing(tmp_path):
    nothing = Maximisation([], [], dict.fromkeys(MODELS, np.zeros((4, 0))))
    assert read_curves(tmp_path / "nowhere").empty
    write_maximised(tmp_path, nothing)
    assert read_curves(tmp_path).empty
    assert transfer_table(nothing).empty
    assert curve_table(nothing).empty
    assert np.isnan(share_above_real_images(transfer_table(nothing)))
    assert summary(transfer_table(nothing)).startswith("no concept to maximise: see `maximise.rule`")


def test_targets_have_names():
    assert [target.name for target in targets_of([12, 3], 2)] == ["12", "3", "random-0", "random-1"]
    assert MaximisationTarget("concept", 12).name == "12"


def test_spectrum_of_a_run_is_that_of_its_images(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    records = []
    for number, image in enumerate(pixels):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "png")
        records.append(Record.of_bytes(str(number), buffer.getvalue()))
    write_index(records, tmp_path / "val.parquet", None, ())
    found = run_spectrum(ImageIndex.load(tmp_path / "val.parquet"), 16, "squash")
    wanted = magnitude_spectrum(torch.from_numpy(image).permute(2, 0, 1) / 255 for image in pixels)
    torch.testing.assert_close(found, wanted)


def test_no_two_models_have_one_picture(tmp_path):
    """`vit-1` is a slug like others."""
    paths = [
        picture_path(tmp_path, "12", model, start) for model in ("vit", "vit-1", "vit-1-1") for start in range(3)
    ]
    assert len(set(paths)) == 9


def test_a_kept_target_that_is_damaged_is_made_again(maximised, tmp_path):
    file = tmp_path / "a.npz"
    assert not PaintedTarget.kept(file)
    painted = maximised[0].painted
    painted.save(file)
    assert PaintedTarget.kept(file)
    whole = file.read_bytes()
    for place in np.linspace(200, len(whole) - 1, 7).astype(int):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if PaintedTarget.kept(file):  # in what a zip holds beside its contents
            for field in dataclasses.fields(painted):
                loaded = getattr(PaintedTarget.load(file), field.name)
                np.testing.assert_array_equal(loaded, getattr(painted, field.name))
    file.write_bytes(whole[:90])
    assert not PaintedTarget.kept(file)


def test_a_damaged_picture_is_one_sentence(tmp_path):
    file = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    whole = file.read_bytes()
    np.testing.assert_array_equal(read_picture(file), pixels)
    for damage in (b"", whole[:600], whole[:800] + bytes([whole[800] ^ 1]) + whole[801:], None):
        file.write_bytes(damage) if damage is not None else file.unlink()
        with pytest.raises(UserError, match=r"a.png is damaged \(.*\); run `dvc repro -f -s maximise`"):
            read_picture(file)
