"""The L1 penalty: by hand, and a strength that follows the number of codes."""

import pytest
import torch

from usae.methods.joint.codes import TokenCodes
from usae.methods.joint.penalty import FIRST_SHARE, PACE, Penalty, l1

NORMS = torch.tensor([[3.0, 0.0], [4.0, 1.0]])  # of two concepts in models A and B


def codes_of(*tokens):
    """Codes of tokens, dense as given."""
    dense = torch.tensor(tokens)
    token, concepts = dense.nonzero(as_tuple=True)
    return TokenCodes(concepts, dense[token, concepts], torch.searchsorted(token, torch.arange(len(dense))))


def test_a_code_costs_the_sum_of_its_norms():
    assert float(l1([codes_of([2.0, 1.0])], NORMS)) == 15  # side by side, rows of norms 5 and 1 would cost 11
    assert float(l1([codes_of([2.0, 1.0], [0.0, 0.0])], NORMS)) == 7.5
    assert float(l1([codes_of([2.0, 0.0]), codes_of([0.0, 1.0])], NORMS)) == 15  # level by level


def test_it_reaches_codes_and_norms():
    values, norms = torch.tensor([2.0, 1.0], requires_grad=True), NORMS.clone().requires_grad_()
    penalty = Penalty(1)
    codes = TokenCodes(torch.tensor([0, 1]), values, torch.tensor([0]))
    penalty([codes], norms, torch.tensor(30.0)).backward()
    strength = FIRST_SHARE * 30 / 15
    torch.testing.assert_close(values.grad, strength * torch.tensor([7.0, 1.0]))
    torch.testing.assert_close(norms.grad, strength * torch.tensor([[2.0, 1.0], [2.0, 1.0]]))


@pytest.mark.parametrize(("k", "factor"), [(1, 2.0), (2, 1.0), (4, 0.5)])
def test_the_strength_grows_where_there_are_more_than_k_codes_to_a_token(k, factor):
    penalty, codes = Penalty(k), [codes_of([2.0, 1.0])]
    first = float(penalty(codes, NORMS, torch.tensor(30.0)))
    assert first == pytest.approx(FIRST_SHARE * 30)
    assert penalty.strength == pytest.approx(FIRST_SHARE * 2 * factor**PACE)
    assert float(penalty(codes, NORMS, torch.tensor(7.0))) == pytest.approx(first * factor**PACE)


def test_without_any_code_it_stays_finite():
    penalty = Penalty(1)
    for _ in range(2):
        assert float(penalty([codes_of([0.0, 0.0])], NORMS, torch.tensor(30.0))) == 0
    penalty([codes_of([2.0, 1.0])], NORMS, torch.tensor(30.0))
    assert penalty.strength > 0
