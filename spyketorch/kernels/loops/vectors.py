"""Additions in whole vectors.

The runs of neighbouring spikes overlap. A compiler stores the end of a run in smaller pieces than the next run loads,
which then waits until all of them have reached the cache; here all of it is in vectors of one size.
"""

from functools import partial
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


ROWS = 4  # that are changed together, so that what is one per neuron is read and written once for them


def _teach_lanes(
    typing: Any, rows: Any, at: Any, changes: Any, where: Any, expected: Any, neurons: Any, first: Any
) -> Any:
    """Change LANES weights, from neuron ``first`` on, of ROWS inputs; all arrays are flat, contiguous, of one type.

    The k-th input has its weights at ``at[k]`` in ``rows``, and its changes at ``where[k]``; of ``neurons``, arrays
    (scale, common, low, high, sums), weights become min(max(scale * weight + change + expected[k] * common, low),
    high), and are added, times ``expected[k]``, to ``sums``, the one input after the other.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = context.get_value_type(rows.dtype)
        vector, size = ir.VectorType(number, LANES).as_pointer(), context.get_abi_sizeof(number)

        def lanes(kind: Any, array: Any, index: Any) -> Any:
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), vector)

        def load(kind: Any, array: Any, index: Any) -> Any:
            return builder.load(lanes(kind, array, index), align=size)

        def all_lanes(value: Any) -> Any:
            once = builder.insert_element(ir.Constant(ir.VectorType(number, LANES), ir.Undefined), value, index(0))
            return builder.shuffle_vector(once, once, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

        index, offset = partial(ir.Constant, ir.IntType(32)), values[6]
        arrays = [builder.extract_value(values[5], k) for k in range(5)]
        factor, common, least, most, total = (
            load(kind, array, offset) for kind, array in zip(neurons, arrays, strict=True)
        )
        inputs = [[builder.extract_value(values[i], k) for i in (1, 3, 4)] for k in range(ROWS)]
        loaded = [
            (
                lanes(rows, values[0], builder.add(place, offset)),
                load(changes, values[2], builder.add(change, offset)),
                all_lanes(share),
            )
            for place, change, share in inputs
        ]
        for pointer, change, share in loaded:
            weight = builder.fadd(builder.fmul(factor, builder.load(pointer, align=size)), change)
            weight = builder.fadd(weight, builder.fmul(share, common))
            weight = builder.select(builder.fcmp_ordered("<", weight, least), least, weight)
            weight = builder.select(builder.fcmp_ordered(">", weight, most), most, weight)
            builder.store(weight, pointer, align=size)
            total = builder.fadd(total, builder.fmul(share, weight))
        builder.store(total, lanes(neurons[4], arrays[4], offset), align=size)
        return context.get_dummy_value()

    of_each = types.UniTuple(types.uint64, ROWS)  # type: ignore[no-untyped-call]
    return types.void(rows, of_each, changes, of_each, expected, neurons, types.uint64), generate


teach_lanes: Any = intrinsic(_teach_lanes)
