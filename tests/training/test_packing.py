"""Packing must change nothing but the time: every branch sees and predicts what it would alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.packing import Branch, pack

tokens = st.lists(st.integers(0, 3), min_size=2, max_size=9)


@given(st.lists(tokens, min_size=1, max_size=5))
def test_each_branch_sees_exactly_its_own_past_at_its_own_positions(sequences: list[list[int]]) -> None:
    branches = [Branch(np.array(ids), 1, 1.0, str(n)) for n, ids in enumerate(sequences)]
    packed = pack(branches)
    for number, branch in enumerate(branches):
        mine = packed.branch == number
        for place, target, step in zip(packed.source[mine], packed.target[mine], range(1, 99), strict=False):
            seen = np.flatnonzero(packed.mask[place])
            assert packed.ids[seen].tolist() == branch.ids[:step].tolist()
            assert packed.depth[seen].tolist() == list(range(step))
            assert target == branch.ids[step]


def test_a_common_beginning_is_held_once() -> None:
    shared = list(range(10, 60))
    packed = pack([Branch(np.array([*shared, n, 1]), 50, 1.0, "") for n in (2, 3, 4)])
    assert len(packed.ids) == 50 + 3 * 2


def test_the_weights_of_a_branch_add_up_to_its_own() -> None:
    packed = pack([Branch(np.array([5, 6, 7, 8]), 1, 0.25, "a"), Branch(np.array([5, 6, 9]), 2, 0.75, "b")])
    assert [float(packed.weight[packed.branch == n].sum()) for n in (0, 1)] == [0.25, 0.75]


def test_nothing_looks_ahead() -> None:
    packed = pack([Branch(np.array([1, 2, 3]), 1, 1.0, ""), Branch(np.array([1, 4]), 1, 1.0, "")])
    assert not np.triu(packed.mask, 1).any()
