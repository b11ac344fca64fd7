import pytest
import torch

from usae.common.errors import UserError
from usae.sae.levels import Levels
from usae.sae.sparse import top_k
from usae.sae.universal import UniversalSAE


def test_codes_are_shared_out_and_what_is_left_goes_to_the_last():
    levels = Levels((4, 8, 24), 8)
    assert levels.concepts == [slice(0, 4), slice(4, 8), slice(8, 24)]
    assert levels.codes == [slice(0, 2), slice(2, 5), slice(5, 8)]


def test_each_level_keeps_its_own_largest():
    pre = torch.tensor([[1.0, 3.0, -2.0, 9.0, 8.0, 7.0]])
    codes = Levels((3, 6), 4).top_k(pre)
    assert codes.dense(6).tolist() == [[1.0, 3.0, 0.0, 9.0, 8.0, 0.0]]
    assert sorted(codes.indices[0, :2].tolist()) == [0, 1]
    assert sorted(codes.indices[0, 2:].tolist()) == [3, 4]


def test_one_level_is_the_plain_top_k():
    pre = torch.randn(5, 3, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Levels((12,), 4).top_k(pre).dense(12), top_k(pre, 4).dense(12))


def test_the_coarse_codes_are_the_same_without_the_finer_concepts():
    pre = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    both, coarse = Levels((6, 20), 4).top_k(pre), Levels((6,), 2).top_k(pre[:, :6])
    assert torch.equal(both.dense(20)[:, :6], coarse.dense(6))


@pytest.mark.parametrize(("ends", "k"), [((2, 10), 6), ((4, 10), 1), ((4, 4), 2), ((4, 5), 6)])
def test_a_level_needs_codes_and_room_for_them(ends, k):
    with pytest.raises(UserError, match="Change `train.levels` or `k`"):
        Levels(ends, k)


def test_levels_survive_saving(tmp_path):
    sae = UniversalSAE({"a": 6, "b": 5}, 12, 4, coarse=(4, 8)).eval()
    sae.save_pretrained(tmp_path)
    again = UniversalSAE.from_pretrained(tmp_path)
    assert again.levels.ends == (4, 8, 12)
    rows = {"a": torch.randn(9, 6, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(again.encode(rows)["a"].indices, sae.encode(rows)["a"].indices)
