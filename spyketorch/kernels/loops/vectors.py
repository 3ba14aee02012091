"""Additions in whole vectors.

The runs of neighbouring spikes overlap. A compiler stores the end of a run in smaller pieces than the next run loads,
which then waits until all of them have reached the cache; here all of it is in vectors of one size.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from spyketorch.kernels.loops.layout import LANES


def _add_lanes(typing: Any, to: Any, at: Any, source: Any, where: Any) -> Any:
    """to[at : at + LANES] += source[where : where + LANES], of contiguous arrays of one type, within their bounds."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = context.get_value_type(to.dtype)
        vector, size = ir.VectorType(number, LANES).as_pointer(), context.get_abi_sizeof(number)

        def lanes(kind: Any, array: Any, index: Any) -> Any:
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), vector)

        target, added = lanes(to, values[0], values[1]), lanes(source, values[2], values[3])
        total = builder.fadd(builder.load(target, align=size), builder.load(added, align=size))
        builder.store(total, target, align=size)
        return context.get_dummy_value()

    return types.void(to, types.uint64, source, types.uint64), generate


add_lanes: Any = intrinsic(_add_lanes)
