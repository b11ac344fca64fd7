"""MACO images, coordinated maximisation with real tiny timm backbones, and the folder that the stage writes."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from usae.backbones import Backbone, build, pin
from usae.errors import UserError
from usae.images import ImageIndex, Record, write_index
from usae.maco import (
    COLOUR,
    decorrelate,
    fallback_spectrum,
    initial_phase,
    magnitude_spectrum,
    render,
    spectrum_of,
)
from usae.maximisation import draw_crops, look, maximise_concepts
from usae.maximised import read_scores, write_maximised
from usae.params import BackboneParams, MaximiseParams
from usae.sae import UniversalSAE
from usae.store import ActivationStore
from usae.yardstick import real_scores, run_spectrum, spaced

SIZE, GRID, CONCEPTS = 32, 4, 24
PARAMS = MaximiseParams(
    concepts=3, steps=40, crops=2, size=SIZE, learning_rate=1.0, crop_side=(0.5, 0.9), noise=0.05
)
CHOSEN = [3, 7, 20]


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
def usae():
    """Two models with the same weights: what differs between their pictures could only come from the draws."""
    torch.manual_seed(1)
    sae = UniversalSAE({"one": 24, "twin": 24}, CONCEPTS, 4)
    sae.parts["twin"].load_state_dict(sae.parts["one"].state_dict())
    return sae.eval()


@pytest.fixture(scope="module")
def result(usae, backbone):
    return maximise_concepts(usae, backbone, "one", CHOSEN, fallback_spectrum(SIZE), PARAMS, seed=0, batch=64)


@pytest.mark.parametrize("size", [16, 15])
def test_only_the_phase_is_free(size):
    magnitude = spectrum(size)
    phase = torch.randn(5, 3, size, size // 2 + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    image = torch.fft.irfft2(spectrum_of(phase, magnitude), s=(size, size))
    found = torch.fft.rfft2(image)
    torch.testing.assert_close(found.abs(), magnitude.abs().expand_as(found), rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(found[..., 0, 0].real, magnitude[:, 0, 0].expand(5, 3), rtol=1e-10, atol=1e-9)


def test_render_keeps_mean_colour_and_contrast():
    magnitude = spectrum(SIZE)
    phase = initial_phase(SIZE, torch.Generator().manual_seed(3)).double()
    logits = torch.logit(render(phase, magnitude))  # (rgb, rows, columns)
    channels = torch.einsum("rhw,rc->chw", logits, torch.linalg.inv(COLOUR))
    centred = channels - channels.mean(dim=(1, 2), keepdim=True)
    assert centred.square().mean().item() == pytest.approx(1.0, abs=1e-9)
    torch.testing.assert_close(channels.mean(dim=(1, 2)), magnitude[:, 0, 0] / SIZE**2)


def test_decorrelate_undoes_the_colours_of_render():
    magnitude = fallback_spectrum(16)
    phase = initial_phase(16, torch.Generator().manual_seed(4)).double()
    channels = torch.fft.irfft2(spectrum_of(phase, magnitude), s=(16, 16))
    pixels = render(phase, magnitude)
    inside = ((pixels > 0.02) & (pixels < 0.98)).all(dim=0)
    torch.testing.assert_close(decorrelate(pixels)[:, inside], channels[:, inside])


def test_spectrum_of_one_image_is_its_own_up_to_scale():
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(5))
    ratio = magnitude_spectrum([image]).abs() / torch.fft.rfft2(decorrelate(image)).abs()
    torch.testing.assert_close(ratio, ratio[0, 0, 0].expand_as(ratio))


def test_fallback_falls_with_the_frequency():
    magnitude = fallback_spectrum(64)
    assert magnitude[0, 0, 0] == 0
    assert torch.log2(magnitude[0, 0, 8] / magnitude[0, 0, 16]).item() == pytest.approx(1.3)


def test_spectrum_needs_images_with_contrast():
    with pytest.raises(UserError, match="no image was given"):
        magnitude_spectrum([])
    with pytest.raises(UserError, match="every pixel has the same colour"):
        magnitude_spectrum([torch.full((3, 8, 8), 0.5)])


def test_maximisation_raises_the_score(result):
    assert result.curve.shape == (PARAMS.steps, len(CHOSEN))
    assert (result.curve[-10:].mean(axis=0) > result.curve[:5].mean(axis=0) + 0.1).all()


def test_pictures_carry_an_attribution_mask(result):
    assert result.pictures.shape == (len(CHOSEN), SIZE, SIZE, 4)
    assert result.pictures.dtype == np.uint8
    alpha = result.pictures[..., 3]
    assert alpha.max() == 255
    assert (alpha == 255).mean() == pytest.approx(0.2, abs=0.03)
    assert not np.array_equal(result.pictures[0], result.pictures[1])


def test_models_share_phase_crops_and_noise(usae, backbone, result):
    twin = maximise_concepts(usae, backbone, "twin", CHOSEN, fallback_spectrum(SIZE), PARAMS, seed=0, batch=64)
    assert np.array_equal(twin.pictures, result.pictures)
    assert np.array_equal(twin.curve, result.curve)


def test_another_seed_draws_other_images(usae, backbone, result):
    other = maximise_concepts(usae, backbone, "one", CHOSEN, fallback_spectrum(SIZE), PARAMS, seed=1, batch=64)
    assert not np.array_equal(other.pictures, result.pictures)


def test_batch_size_bounds_memory_only(usae, backbone, result):
    one_by_one = maximise_concepts(usae, backbone, "one", CHOSEN, fallback_spectrum(SIZE), PARAMS, seed=0, batch=1)
    np.testing.assert_allclose(one_by_one.curve[:3], result.curve[:3], rtol=1e-3, atol=1e-3)


def test_no_concept_makes_no_picture(usae, backbone):
    nothing = maximise_concepts(usae, backbone, "one", [], fallback_spectrum(SIZE), PARAMS, seed=0, batch=64)
    assert nothing.pictures.shape == (0, SIZE, SIZE, 4)
    assert nothing.curve.shape == (PARAMS.steps, 0)


def test_crops_depend_on_seed_and_step_alone():
    first, again, later = (draw_crops(0, step, PARAMS, 32) for step in (4, 4, 5))
    assert torch.equal(first.grid, again.grid)
    assert torch.equal(first.noise, again.noise)
    assert not torch.equal(first.grid, later.grid)
    finer = draw_crops(0, 4, PARAMS, 64)
    torch.testing.assert_close(finer.grid.mean(dim=(1, 2)), first.grid.mean(dim=(1, 2)))
    assert first.grid.abs().max() <= 1


def test_look_is_concept_by_concept():
    images = torch.stack([torch.zeros(3, SIZE, SIZE), torch.ones(3, SIZE, SIZE)])
    quiet = PARAMS.model_copy(update={"noise": 0.0, "crop_side": (0.4, 0.5)})
    views = look(images, draw_crops(0, 0, quiet, 16))
    assert views.shape == (2 * PARAMS.crops, 3, 16, 16)
    torch.testing.assert_close(views.mean(dim=(1, 2, 3)), torch.tensor([0.0, 0.0, 1.0, 1.0]))


def test_real_scores_are_mean_pre_codes(usae, tmp_path):
    tokens = np.random.default_rng(0).normal(size=(10, GRID * GRID, 24)).astype(np.float16)
    store = ActivationStore.create(tmp_path / "store", tokens.shape, 4, "float16", {})
    for chunk in range(store.chunks):
        store.write(chunk, tokens[store.span(chunk)])
    wanted = usae.pre_codes("one", torch.from_numpy(tokens.astype(np.float32))).mean(dim=1)[:, CHOSEN].detach()
    np.testing.assert_allclose(real_scores(usae, "one", store, CHOSEN), wanted, rtol=1e-4, atol=1e-5)
    few = real_scores(usae, "one", store, CHOSEN, count=4)
    np.testing.assert_allclose(few, wanted[[0, 3, 6, 9]], rtol=1e-4, atol=1e-5)


def test_spaced_positions():
    assert spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert spaced(3, 100).tolist() == [0, 1, 2]


def test_folder_round_trip_and_same_bytes(result, tmp_path):
    real = np.concatenate([np.full((3, 3), -100.0), np.full((1, 3), 100.0)])
    for name in ("first", "second"):
        write_maximised(tmp_path / name, CHOSEN, {"one": result}, {"one": real})
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.*"))
    assert [*map(str, files)] == ["20/one.png", "3/one.png", "7/one.png", "curves.parquet", "scores.json"]
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    score = read_scores(tmp_path / "first")[7, "one"]
    assert (score.percentile, score.real_images) == (75.0, 4)
    assert score.score == pytest.approx(float(result.scores[1]), abs=1e-6)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "first/7/one.png")), result.pictures[1])
    curves = pd.read_parquet(tmp_path / "first/curves.parquet")
    assert len(curves) == PARAMS.steps * len(CHOSEN)
    np.testing.assert_array_equal(curves.loc[curves["concept_id"] == 7, "score"], result.curve[:, 1])


def test_nothing_maximised_reads_as_nothing(tmp_path):
    assert read_scores(tmp_path / "nowhere") == {}
    write_maximised(tmp_path, [], {}, {})
    assert read_scores(tmp_path) == {}
    assert Path(tmp_path / "curves.parquet").is_file()


def test_spectrum_of_a_run_is_that_of_its_images(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    records = []
    for number, image in enumerate(pixels):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "png")
        records.append(Record(key=str(number), data=buffer.getvalue(), digest=str(number)))
    write_index(records, tmp_path / "val.parquet", None, ())
    found = run_spectrum(ImageIndex.load(tmp_path / "val.parquet"), 16, "squash")
    wanted = magnitude_spectrum(torch.from_numpy(image).permute(2, 0, 1) / 255 for image in pixels)
    torch.testing.assert_close(found, wanted)
