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


ROWS = 4  # that are changed together, so that what is one per neuron is read and written once for them


def _teach_lanes(
    typing: Any, rows: Any, at: Any, changes: Any, where: Any, scale: Any, low: Any, high: Any, sums: Any, first: Any
) -> Any:
    """Change LANES weights, from neuron ``first`` on, of ROWS inputs; all arrays are flat, contiguous, of one type.

    The k-th input has its weights at ``at[k]`` in ``rows``, and its changes at ``where[k]``: weights become
    min(max(scale * weight + change, low), high), and are added to ``sums``, the one input after the other.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = context.get_value_type(rows.dtype)
        vector, size = ir.VectorType(number, LANES).as_pointer(), context.get_abi_sizeof(number)

        def lanes(kind: Any, array: Any, index: Any) -> Any:
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), vector)

        def load(kind: Any, array: Any, index: Any) -> Any:
            return builder.load(lanes(kind, array, index), align=size)

        offset = values[8]
        per_neuron = [load(kind, values[i], offset) for i, kind in enumerate((scale, low, high, sums), 4)]
        factor, least, most, total = per_neuron[0], per_neuron[1], per_neuron[2], per_neuron[3]
        places = [(builder.extract_value(values[1], k), builder.extract_value(values[3], k)) for k in range(ROWS)]
        loaded = [
            (lanes(rows, values[0], builder.add(place, offset)), load(changes, values[2], builder.add(change, offset)))
            for place, change in places
        ]
        for pointer, change in loaded:
            weight = builder.fadd(builder.fmul(factor, builder.load(pointer, align=size)), change)
            weight = builder.select(builder.fcmp_ordered("<", weight, least), least, weight)
            weight = builder.select(builder.fcmp_ordered(">", weight, most), most, weight)
            builder.store(weight, pointer, align=size)
            total = builder.fadd(total, weight)
        builder.store(total, lanes(sums, values[7], offset), align=size)
        return context.get_dummy_value()

    of_each = types.UniTuple(types.uint64, ROWS)  # type: ignore[no-untyped-call]
    return types.void(rows, of_each, changes, of_each, scale, low, high, sums, types.uint64), generate


teach_lanes: Any = intrinsic(_teach_lanes)
