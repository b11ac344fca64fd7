import pytest
import torch
import torch.nn.functional as F

from usae.training.start.kmeans import cluster_means, members_of, spherical_kmeans, split_centres


def blobs(clusters: int, each: int, seed: int, spread: float = 0.05) -> torch.Tensor:
    """Unit rows around orthogonal directions, cluster by cluster."""
    noise = torch.randn(clusters * each, 12, generator=torch.Generator().manual_seed(seed))
    return F.normalize(torch.eye(12)[:clusters].repeat_interleave(each, 0) + spread * noise)


def test_well_separated_clusters_are_found():
    rows = blobs(6, 40, 0)
    centres = spherical_kmeans(rows, 6)
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(6))
    found = members_of(rows, centres).view(6, 40)
    assert (found == found[:, :1]).all()
    assert len(found[:, 0].unique()) == 6


def test_other_rows_of_the_same_kind_give_the_same_clusters():
    one, other = (spherical_kmeans(blobs(6, 40, seed), 6) for seed in (0, 1))
    assert (one @ other.T).max(1).values.min() > 0.99


def test_the_first_split_is_at_the_mean_across_the_widest_axis():
    rows = torch.tensor([[3.0, 0.1], [2.0, -0.1], [-2.0, 0.1], [-3.0, -0.1]])
    expected = {(1.0, 0.0), (-1.0, 0.0)}
    assert {tuple(round(x, 6) + 0.0 for x in centre) for centre in split_centres(rows, 2).tolist()} == expected


def test_one_row_far_out_does_not_make_the_axis():
    rows = torch.tensor([[2.0, 0.0]] * 6 + [[-2.0, 0.0]] * 6 + [[0.0, 3.0]])
    widest = split_centres(rows, 2)
    assert widest[:, 0].abs().min() > 0.9


def test_the_widest_part_is_split_next():
    rows = torch.tensor([[10.0, 5.0], [10.0, -5.0], [-10.0, 0.1], [-10.0, -0.1]])
    centres = split_centres(rows, 3)
    wanted = F.normalize(torch.tensor([[10.0, 5.0], [10.0, -5.0], [-10.0, 0.0]]))
    assert (centres @ wanted.T).max(0).values.min() > 1 - 1e-6


def test_rows_that_are_all_alike_and_single_ones_can_be_split():
    rows = F.normalize(torch.ones(5, 3))
    torch.testing.assert_close(split_centres(rows, 5), rows)
    with pytest.raises(ValueError, match="5 rows cannot be split into 6 parts"):
        split_centres(rows, 6)


def test_means_of_clusters():
    rows = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    assert cluster_means(rows, torch.tensor([0, 0, 2]), 3).tolist() == [[2.0, 1.0], [0.0, 0.0], [5.0, 5.0]]


def test_no_cluster_is_left_empty():
    rows = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.2], [1.0, 0.5], [0.0, 1.0], [0.0, 0.0]]))
    centres = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert members_of(rows, centres).tolist() == [0, 0, 2, 1, 0]  # the worst of three; zeros stay
    assert members_of(rows[3:], centres).tolist() == [1, 0]  # nothing to give


def test_sets_with_few_different_rows_end():
    rows = torch.cat([F.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))] * 20)
    rows[::7] = 0
    centres = spherical_kmeans(rows, 12)
    assert centres.isfinite().all()
    assert (members_of(rows, centres).bincount(minlength=12) > 0).all()


def test_it_settles_where_every_row_is_in_its_nearest_cluster():
    rows = F.normalize(torch.randn(200, 8, generator=torch.Generator().manual_seed(3)))
    centres = spherical_kmeans(rows, 5)
    before = (rows * split_centres(rows, 5)[members_of(rows, split_centres(rows, 5))]).sum()
    assert (rows * centres[members_of(rows, centres)]).sum() > before
