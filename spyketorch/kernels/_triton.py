"""A kernel in Triton: a walk over samples that learns each before it meets the next.

What it is given :mod:`.on_triton` says, which imports this where it serves, and launches it. Sums are in full float32.
Functions of Triton have no annotations but of what is compiled in.
"""

import triton
import triton.language as tl

NEURONS = tl.constexpr(1024)  # those that are compared together, or numbers of weights that change


@triton.jit
def _corner(group, position, sizes: tl.constexpr):
    """Where the inputs of neurons of a group begin, at some positions, in the padded image."""
    row, column = position // sizes.outputs[2], position % sizes.outputs[2]
    first = (group * sizes.inputs[0] * sizes.inputs[1] + row * sizes.geometry.stride[0]) * sizes.inputs[2]
    return first + column * sizes.geometry.stride[1]


@triton.jit
def _step(place, sizes: tl.constexpr):
    """From there to the inputs at places, each a (feature, row, column) of the kernel."""
    kernel: tl.constexpr = sizes.geometry.kernel_size
    channel, row, column = place // (kernel[0] * kernel[1]), place // kernel[1] % kernel[0], place % kernel[1]
    down = channel * sizes.inputs[1] + row * sizes.geometry.dilation[0]
    return down * sizes.inputs[2] + column * sizes.geometry.dilation[1]


@triton.jit
def _tile(number, sizes: tl.constexpr):
    """(positions, features, group of the features) of the neurons of a tile; those beyond the last are none."""
    tile: tl.constexpr = sizes.tile
    tiles: tl.constexpr = sizes.tiles
    per_group: tl.constexpr = sizes.geometry.features_per_group
    position = number % tiles.positions * tile.positions + tl.arange(0, tile.positions)
    feature = number // tiles.positions % tiles.features * tile.features + tl.arange(0, tile.features)
    group = number // (tiles.positions * tiles.features)
    return position, tl.where(feature < per_group, group * per_group + feature, sizes.outputs[0]), group


@triton.jit
def _respond(times, weight, limit, number, sizes: tl.constexpr):
    """(indices of a tile's neurons, which of them exist, their first spikes, their potentials there) of an image.

    The potentials of several steps are one product: of zeros and ones, whether an input has fired by a step, with the
    weights. The tile makes them of the times as it goes, so that frames and potentials over time are nowhere; it stops
    when its last neuron has fired. That costs as many multiplications as T convolutions do. (To sort the inputs of each
    neuron by time would save them, for a sort per neuron and reads out of order.)
    """
    steps: tl.constexpr = sizes.time_steps
    at_once: tl.constexpr = sizes.tile.steps
    rows: tl.constexpr = sizes.tile.positions * at_once
    places: tl.constexpr = sizes.tile.inputs
    position, feature, group = _tile(number, sizes)
    known = feature < sizes.outputs[0]
    exists = (position < sizes.positions)[:, None] & known[None, :]
    limits = tl.load(limit + feature, known, other=0.0)[None, None, :]
    values = tl.zeros((sizes.tile.positions, sizes.tile.features), tl.float32)
    fired = tl.full((sizes.tile.positions, sizes.tile.features), steps, tl.int32)
    corner = times + _corner(group, position, sizes)[:, None]
    begin = 0
    while (begin < steps) & (tl.max(tl.where(exists, fired, 0)) == steps):
        step = begin + tl.arange(0, at_once)[None, :, None]
        potential = tl.zeros((rows, sizes.tile.features), tl.float32)
        for first in range(0, sizes.synapses, places):
            place = first + tl.arange(0, places)
            inside = (place < sizes.synapses)[None, :] & (position < sizes.positions)[:, None]
            heard = tl.load(corner + _step(place, sizes)[None, :], inside, other=steps)
            by_now = (heard[:, None, :] <= step) & (heard[:, None, :] < steps)
            there = (place < sizes.synapses)[:, None] & known[None, :]
            of_place = tl.load(weight + feature[None, :] * sizes.synapses + place[:, None], there, other=0.0)
            frames = tl.reshape(by_now.to(tl.float32), (rows, places))
            potential = tl.dot(frames, of_place, potential, input_precision="ieee")
        reached = tl.reshape(potential, (sizes.tile.positions, at_once, sizes.tile.features))
        crosses = (reached > limits) & (step < steps)
        first_step = tl.min(tl.where(crosses, step, steps), 1)
        there_then = tl.sum(tl.where(step == first_step[:, None, :], reached, 0.0), 1)
        now = (fired == steps) & (first_step < steps)
        fired = tl.where(now, first_step, fired)
        values = tl.where(now, there_then, values)
        begin += at_once
    return feature[None, :] * sizes.positions + position[:, None], exists, fired, values


@triton.jit
def _meet(met, so_far):
    """Wait until all programs have come here; then each sees what the others have written. Gives ``so_far`` anew.

    All of them have to run at once, or they wait for ever: a cooperative launch takes care of it.
    """
    so_far += tl.num_programs(0)
    tl.debug_barrier()  # of the threads of a program
    tl.atomic_add(met, 1, sem="release")
    while tl.atomic_add(met, 0, sem="acquire") < so_far:
        pass
    tl.debug_barrier()
    return so_far


@triton.jit
def _best(time, value, index, axis: tl.constexpr):
    """(time, index) of the earliest along an axis, of equals the one with the largest value, then the lowest index."""
    earliest = tl.min(time, axis, keep_dims=True)
    value = tl.where(time == earliest, value, float("-inf"))
    largest = value == tl.max(value, axis, keep_dims=True)
    return earliest, tl.min(tl.where((time == earliest) & largest, index, 2**31 - 1), axis, keep_dims=True)


@triton.jit
def _inhibit(answer, number, sizes: tl.constexpr):
    """Let one neuron survive at each of some positions."""
    steps: tl.constexpr = sizes.time_steps
    position = (number * sizes.across.positions + tl.arange(0, sizes.across.positions))[:, None]
    feature = tl.arange(0, sizes.across.features)[None, :]
    exists = (position < sizes.positions) & (feature < sizes.outputs[0])
    neuron = feature * sizes.positions + position
    time = tl.load(answer.fired + neuron, exists, other=steps)
    value = tl.load(answer.potentials + neuron, exists, other=0.0)
    _, survivor = _best(time, value, feature, 1)
    tl.store(answer.fired + neuron, steps, exists & (feature != survivor))


@triton.jit
def _search(answer, winner, radius, sizes: tl.constexpr):
    """(time, index) of the best neuron, once the last winner has silenced its feature, and places around it.

    It is silent, T, where none is left. ``winner`` is -1 where there was none before.
    """
    rows: tl.constexpr = sizes.outputs[1]
    columns: tl.constexpr = sizes.outputs[2]
    earliest = tl.full((NEURONS,), sizes.time_steps, tl.int32)
    largest = tl.zeros((NEURONS,), tl.float32)
    best = tl.arange(0, NEURONS)
    for first in range(0, sizes.neurons, NEURONS):
        neuron = first + tl.arange(0, NEURONS)
        time = tl.load(answer.fired + neuron, neuron < sizes.neurons, other=sizes.time_steps)
        value = tl.load(answer.potentials + neuron, neuron < sizes.neurons, other=0.0)
        down = tl.abs(neuron // columns % rows - winner // columns % rows)
        right = tl.abs(neuron % columns - winner % columns)
        near = (radius > 0) & (down <= radius) & (right <= radius)
        same = neuron // sizes.positions == winner // sizes.positions
        time = tl.where(((winner >= 0) & (same | near)) | (value <= 0), sizes.time_steps, time)
        tl.store(answer.fired + neuron, time, neuron < sizes.neurons)
        better = (time < earliest) | ((time == earliest) & (value > largest))
        earliest = tl.where(better, time, earliest)
        largest = tl.where(better, value, largest)
        best = tl.where(better, neuron, best)
    time, index = _best(earliest, largest, best, 0)
    return tl.sum(time), tl.sum(index)  # of one number each


@triton.jit
def _update(times, weight, rule, winner, post, wrong, sizes: tl.constexpr):
    """Update the weights of a winner, which fired at step ``post``."""
    feature = winner // sizes.positions
    corner = times + _corner(feature // sizes.geometry.features_per_group, winner % sizes.positions, sizes)
    rates = rule.rates + (wrong * sizes.outputs[0] + feature) * 2
    for first in range(0, sizes.synapses, NEURONS):
        place = first + tl.arange(0, NEURONS)
        own = weight + feature * sizes.synapses + place
        pre = tl.load(corner + _step(place, sizes), place < sizes.synapses, other=0)
        was = tl.load(own, place < sizes.synapses, other=0.0)
        change = tl.where(pre <= post, tl.load(rates), tl.load(rates + 1))
        if rule.stabilized:
            change = change * ((was - rule.lower) * (rule.upper - was))
        tl.store(own, tl.clamp(was + change, rule.lower, rule.upper), place < sizes.synapses)


@triton.jit
def _clamp(weight, rule, sizes: tl.constexpr):
    """Keep all weights within the bounds."""
    count: tl.constexpr = sizes.outputs[0] * sizes.synapses
    for first in range(0, count, NEURONS):
        index = first + tl.arange(0, NEURONS)
        was = tl.load(weight + index, index < count, other=0.0)
        tl.store(weight + index, tl.clamp(was, rule.lower, rule.upper), index < count)


@triton.jit
def walk(
    times,
    count,
    weight,
    limit,
    teacher,
    rule,
    answer,
    winners,
    sizes: tl.constexpr,
    choice: tl.constexpr,
):
    """Learn samples in exact online order in one launch, with the weights in place; fills ``winners`` (N, kwta, 3).

    For each sample the programs share out its answer, tile by tile, and the positions at which neurons inhibit each
    other. The first program alone chooses winners and changes weights, as these are few; the others wait. So they meet
    twice or three times a sample. A single program would never have to, but leaves all multiprocessors but one idle; a
    launch for each part would not either, but takes longer than the part. Which program does what changes no bit.

    The first winner decides whether a sample is rewarded or punished. As a feature wins once, all updates are computed
    from the weights before them.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    labels, active, met = teacher.labels, teacher.active, tl.full((), 0, tl.int64)
    for n in range(count):
        for tile in range(program, sizes.tiles.positions * sizes.tiles.features * sizes.geometry.groups, programs):
            neuron, exists, fired, values = _respond(times, weight, limit, tile, sizes)
            takes_part = tl.load(active + neuron // sizes.positions, exists, other=False)
            tl.store(answer.fired + neuron, tl.where(takes_part, fired, sizes.time_steps), exists)
            tl.store(answer.potentials + neuron, values, exists)
        met = _meet(answer.met, met)
        if choice.inhibit:
            for some in range(program, sizes.tiles.across, programs):
                _inhibit(answer, some, sizes)
            met = _meet(answer.met, met)
        if program == 0:
            winner = tl.full((), -1, tl.int32)
            wrong = tl.full((), 0, tl.int32)
            for k in range(choice.kwta):
                time, found = _search(answer, winner, choice.radius, sizes)
                if time < sizes.time_steps:
                    winner = found
                    feature = winner // sizes.positions
                    if k == 0:
                        wrong = (tl.load(teacher.classes + feature) != tl.load(labels)).to(tl.int32)
                    tl.store(winners + k * 3, feature)
                    tl.store(winners + k * 3 + 1, winner // sizes.outputs[2] % sizes.outputs[1])
                    tl.store(winners + k * 3 + 2, winner % sizes.outputs[2])
                    _update(times, weight, rule, winner, time, wrong, sizes)
                tl.debug_barrier()  # the next search reads what this one silenced
            if n == 0:  # later on only weights change that are clamped
                _clamp(weight, rule, sizes)
        met = _meet(answer.met, met)
        times += sizes.image
        labels += 1
        active += sizes.outputs[0]
        winners += choice.kwta * 3
