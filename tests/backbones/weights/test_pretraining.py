"""Pretraining: deterministic, learning, and shipped checkpoints that fit their architectures."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from usae.backbones.commands.pretrain import main
from usae.backbones.weights.pretraining import ARCHITECTURES, pretrain, save_half, shipped, untrained
from usae.backbones.weights.pretraining.architectures import final_tokens, width_of
from usae.backbones.weights.pretraining.distilled import Distilled, crop, paint_grey
from usae.backbones.weights.pretraining.language import CaptionEncoder, number_words
from usae.backbones.weights.pretraining.scenes import draw_scenes, exposed, flipped
from usae.backbones.weights.probes import group_means, probe_report, probe_scenes
from usae.common.errors import UserError
from usae.images.sources.shapes.scenes import scene

OBJECTIVES = tuple(ARCHITECTURES)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_tokens_lie_on_the_common_grid(objective):
    backbone = untrained(objective, 0).eval()
    architecture = ARCHITECTURES[objective]
    pixels = torch.rand(2, 3, 64, 64)
    maps = backbone.forward_intermediates(pixels, indices=[architecture["layer"]], intermediates_only=True)
    assert maps[0].shape == (2, width_of(backbone), 8, 8)
    assert final_tokens(backbone, pixels).shape == (2, 64, width_of(backbone))
    assert sum(parameter.numel() for parameter in backbone.parameters()) < 500_000


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pretraining_is_deterministic_and_leaves_the_generator_alone(objective):
    state = torch.get_rng_state()
    runs = []
    for _ in range(2):
        losses: list[float] = []
        backbone = pretrain(
            objective, untrained(objective, 1), seed=2, scenes=16, epochs=2, batch=8, losses=losses
        )
        runs.append((losses, backbone.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert len(runs[0][0]) == 4
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])
    assert torch.equal(torch.get_rng_state(), state)
    assert not backbone.training


@pytest.mark.parametrize("objective", ["supervised", "language"])
def test_the_loss_falls(objective):
    losses: list[float] = []
    schedule = {"seed": 0, "scenes": 16, "epochs": 6, "batch": 8, "learning_rate": 3e-3}
    pretrain(objective, untrained(objective, 0), **schedule, losses=losses)
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def test_the_student_learns_what_a_teacher_that_stands_still_says():
    torch.manual_seed(0)
    backbone = untrained("distilled", 0)
    task = Distilled(backbone, width_of(backbone), draw_scenes(0, 8))
    optimiser = torch.optim.AdamW(task.student.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        torch.manual_seed(1)  # the same crops and masks
        task.image_centre.zero_()
        task.token_centre.zero_()
        loss = task(torch.arange(8))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_every_weight_learns_from_every_objective_but_what_attention_to_a_class_token_would_need():
    for objective in OBJECTIVES:
        before = untrained(objective, 0)
        after = pretrain(objective, untrained(objective, 0), seed=0, scenes=8, epochs=1, batch=4)
        unmoved = {
            name
            for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
            if torch.equal(old, new)
        }
        assert unmoved <= {"cls_token"}, objective


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_shipped_checkpoints_are_small_finite_and_fit(objective):
    weights = shipped(objective)
    untrained(objective, 0).load_state_dict(weights, strict=True)
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights.values())
    path = files("usae.backbones.weights").joinpath("shipped", f"{objective}.safetensors")
    assert len(path.read_bytes()) <= 2**20


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_shipped_networks_know_more_than_untrained_ones(objective):
    trained, random = untrained(objective, 0).eval(), untrained(objective, 0).eval()
    trained.load_state_dict(shipped(objective))
    known, guessed = (
        probe_scenes(lambda pixels, backbone=backbone: final_tokens(backbone, pixels), scenes=800)
        for backbone in (trained, random)
    )
    means = group_means(probe_report(known, guessed))
    assert (means["auc_trained"] > means["auc_untrained"] + 0.01).all(), means


def test_an_unknown_checkpoint_is_named():
    with pytest.raises(
        UserError, match=r"No checkpoint 'clip' comes with the package; there are supervised, dist"
    ):
        shipped("clip")


def test_the_command_writes_the_same_bytes_twice(tmp_path):
    for name in ("a", "b"):
        main(["language", "--output", str(tmp_path / name), "--scenes", "64", "--epochs", "1"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    untrained("language", 5).load_state_dict(load_file(tmp_path / "a"), strict=True)


def test_half_precision_rounds_and_does_not_change_the_backbone(tmp_path):
    backbone = untrained("language", 0)
    save_half(backbone, tmp_path / "half.safetensors")
    saved = load_file(tmp_path / "half.safetensors")
    for name, tensor in backbone.state_dict().items():
        assert saved[name].dtype == torch.float16
        assert torch.equal(saved[name], tensor.half())


def test_scenes_are_those_of_the_shapes_module():
    drawn = draw_scenes(9, 3)
    expected = scene(9, 2)
    assert drawn.captions[2] == expected.caption
    assert np.array_equal(drawn.images[2].permute(1, 2, 0).numpy(), expected.image)
    assert np.array_equal(drawn.coverage[2].numpy(), expected.coverage.reshape(64, -1))
    assert np.array_equal(
        (drawn.pixels(torch.tensor([2]))[0] * 255).round().byte().numpy(), drawn.images[2].numpy()
    )


def test_flips_keep_the_pixels_and_exposure_keeps_the_range():
    torch.manual_seed(0)
    pixels = torch.rand(16, 3, 8, 8)
    assert torch.equal(flipped(pixels).flatten(2).sort().values, pixels.flatten(2).sort().values)
    lit = exposed(pixels)
    assert lit.min() >= 0.0
    assert lit.max() <= 1.0
    ratio = (lit / pixels)[:, 0, 0, 0]
    assert ratio.min() < 0.95
    assert ratio.max() > 1.05


def test_whole_crops_return_the_image_and_masks_paint_whole_patches():
    torch.manual_seed(0)
    whole = crop(torch.full((4, 3, 64, 64), 0.5), 64, (1.0, 1.0))
    assert whole.shape == (4, 3, 64, 64)
    assert torch.allclose(whole.std((2, 3)), torch.zeros(4, 3), atol=1e-6)
    masked = torch.zeros(1, 4, dtype=torch.bool)
    masked[0, 1] = True
    painted = paint_grey(torch.ones(1, 3, 16, 16), masked)[0, 0]
    assert (painted[:8, 8:] == 0.5).all()
    assert (painted == 1.0).sum() == 3 * 64


def test_words_are_numbered_from_one_and_padded_with_zero():
    words, size = number_words(("a red ring, a star", "a star"))
    assert words.tolist() == [[1, 2, 3, 1, 4], [1, 4, 0, 0, 0]]
    assert size == 5


def test_captions_tell_apart_who_is_red():
    torch.manual_seed(0)
    words, size = number_words(("a red ring and a blue star", "a blue ring and a red star"))
    first, second = CaptionEncoder(size, words.shape[1])(words)
    assert not torch.allclose(first, second, atol=1e-4)


def test_the_teacher_follows_the_student_slowly_and_gets_no_gradient():
    torch.manual_seed(0)
    task = Distilled(untrained("distilled", 0), width_of(untrained("distilled", 0)), draw_scenes(0, 4))
    task(torch.arange(4)).backward()
    student, teacher = task.student.image_head.prototypes, task.teacher.image_head.prototypes
    assert teacher.grad is None
    assert student.grad is not None
    with torch.no_grad():
        student += 1.0
    before = teacher.clone()
    task.after_step(0.0)
    assert torch.allclose(teacher - before, torch.full_like(before, 0.015), atol=1e-6)
    task.after_step(1.0)
    assert torch.allclose(teacher - before, torch.full_like(before, 0.015), atol=1e-6)
