"""Short operations on one thread are those of torch, in every type."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spyketorch._on_one_thread import converted, extremes, total

TYPES = [*(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16), *(torch.half, torch.bfloat16)]
FLOATING = [torch.float32, torch.float64]


def drawn(seed, dtype, strided):
    random = torch.Generator().manual_seed(seed)
    x = (100 * torch.rand(3, 4, 5, 6, generator=random) - (0 if dtype in (torch.uint8, torch.uint16) else 50)).to(dtype)
    return x.permute(0, 2, 3, 1)[:, ::2] if strided else x


@given(st.integers(0, 99), st.sampled_from([*TYPES, *FLOATING]), st.booleans())
def test_they_are_those_of_torch(seed, dtype, strided):
    x = drawn(seed, dtype, strided)
    wide = x.double()
    assert extremes(x) == (float(wide.min()), float(wide.max()))
    assert type(extremes(x)[0]) is (float if dtype.is_floating_point else int)
    if dtype.is_floating_point:
        assert math.isclose(total(x), float(wide.sum()), rel_tol=0.05, abs_tol=1)
    for into in (*FLOATING, torch.half):
        made = converted(x, into)
        assert made.dtype == into and torch.equal(made, x.to(into))


@pytest.mark.parametrize("dtype", [*FLOATING, torch.half, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_they_hide_nothing(dtype, bad):
    x = torch.ones(2, 3, dtype=dtype)
    x[1, 1] = bad
    assert not math.isfinite(total(x))
    assert all(map(math.isnan, extremes(x))) if math.isnan(bad) else bad in extremes(x)


def test_what_numpy_does_not_see_is_left_to_torch():
    sparse, negative = torch.eye(3).to_sparse(), torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert total(sparse) == 3
    assert converted(sparse, torch.float64).to_dense().dtype == torch.float64
    assert extremes(negative) == (-2, 4) and total(negative) == 2
    assert torch.equal(converted(negative, torch.float64), torch.tensor([-2.0, 4.0], dtype=torch.float64))
    assert total(torch.ones(3, requires_grad=True)) == 3


def test_what_is_of_the_type_is_not_copied():
    x = torch.rand(4)
    assert converted(x, torch.float32) is x
