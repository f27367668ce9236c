"""The CPU versions compute what the stock operations compute."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from training.attention import BLOCK, ByteDropout, blocked_attention


@pytest.mark.parametrize("length", [5, BLOCK, 2 * BLOCK + 7])
def test_blocked_attention_equals_torchs_with_its_gradients(length: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, length, 16, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(2, 2, length, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    allowed = torch.rand(2, 1, length, length).tril() > 0.3
    allowed |= torch.eye(length, dtype=torch.bool)
    bias = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~allowed, float("-inf"))
    mine, _ = blocked_attention(torch.nn.Identity(), query, key, value, bias, 0.25)
    theirs = functional.scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), allowed, scale=0.25
    ).transpose(1, 2)
    torch.testing.assert_close(mine, theirs)
    towards = torch.randn_like(mine)
    for a, b in zip(
        torch.autograd.grad(mine, (query, key, value), towards),
        torch.autograd.grad(theirs, (query, key, value), towards),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)  # key and value gradients are summed in float32


def test_dropout_drops_the_share_it_says_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    out = ByteDropout(0.05).train()(torch.ones(1001, 999))
    assert float((out == 0).float().mean()) == pytest.approx(13 / 256, abs=0.001)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.002)


def test_dropout_is_off_outside_training() -> None:
    x = torch.randn(7, 5)
    assert torch.equal(ByteDropout(0.5).eval()(x), x)
