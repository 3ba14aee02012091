"""Reconstruction of deep features against the oracle (drawing is tested in test_visualization.py)."""

import numpy as np
import reference as ref
from hypothesis import given
from hypothesis import strategies as st
from strategies import dyadic, same, seeds, tensor

from spyketorch import visualization as vis

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(seed=seeds, feature_stride=pairs, window=pairs, stride=pairs, features=st.integers(1, 3), pool=st.booleans())
def test_get_deep_feature(dtype, seed, feature_stride, window, stride, features, pool):
    rng = np.random.default_rng(seed)
    feature = dyadic(rng, (features, *rng.integers(1, 5, 2)), -1, 1)
    weights = None if pool else dyadic(rng, (2, features, *window), -1, 1)
    want, want_stride = ref.get_deep_feature(feature, feature_stride, window, stride, weights)
    x = tensor(feature, dtype)
    got, got_stride = vis.get_deep_feature(
        x, feature_stride, window, stride, *([] if pool else [tensor(weights, dtype)])
    )
    same(got, want)
    assert tuple(got_stride) == want_stride
    same(x, feature)


@given(layers=st.lists(st.tuples(*[st.integers(1, 5)] * 4), max_size=4))
def test_get_deep_receptive_field(layers):
    assert tuple(vis.get_deep_receptive_field(*layers)) == ref.get_deep_receptive_field(*layers)
