"""Networks of integers in NumPy alone, to be believed rather than fast: docs/integer.md, line by line.

    python reference.py MODEL < images > traces

Sums that are many are taken in float64, which adds integers exactly up to 2^53; none here is above 2^31.
"""

import sys

import numpy as np

if __package__:
    from spyketorch.export.runtimes.reading import need, read
else:
    from reading import need, read

NEVER = 2**31 - 1


def windows(maps, outside, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    """What each place sees, (features, rows, columns, kernel rows, kernel columns)."""
    around = np.pad(maps, [(0, 0), *((p, p) for p in padding)], constant_values=outside)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(around, spans, (1, 2))
    return seen[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def pad(values, part, tensors, steps):
    sides = [(0, 0), (part["top"], part["bottom"]), (part["left"], part["right"])]
    return np.pad(values, sides, "edge" if part["edge"] else "constant")


def filtered(values, part, tensors, steps):
    kernels, threshold = tensors[part["weight"]], tensors[part["threshold"]]
    groups = values.reshape(-1, kernels.shape[1], *values.shape[1:])  # of the channels that are read at once
    seen = np.stack([windows(group, 0, kernels.shape[2:]) for group in groups])
    sums = np.einsum("gdyxij,kdij->gkyx", seen.astype(float), kernels.astype(float), optimize=True).astype(np.int64)
    sums = np.where(sums < threshold[:, None, None], 0, sums).reshape(-1, *sums.shape[2:])
    return np.abs(sums) if part["absolute"] else sums


def onoff(values, part, tensors, steps):
    return np.stack([np.maximum(0, values), np.maximum(0, -values)], 1).reshape(-1, *values.shape[1:])


def normalise(values, part, tensors, steps):
    side, radius = 2 * part["radius"] + 1, part["radius"]
    sums = windows(values, 0, (side, side), padding=(radius, radius)).sum((3, 4))
    return np.where(sums > 0, (values << part["shift"]) // np.maximum(sums, 1), 0)


def rank(values, part, tensors, steps):
    flat = values.reshape(-1)
    count = np.count_nonzero(flat)
    each = max(1, count // steps)
    order = np.argsort(-flat, kind="stable")
    times, ranks = np.full(flat.shape, steps), np.arange(len(flat))
    times[order] = np.where((ranks < count) & (ranks < each * steps), ranks // each, steps)
    return times.reshape(values.shape)


def latency(values, part, tensors, steps):
    largest = tensors[part["largest"]].astype(np.int64)
    times = np.minimum(steps - 1, np.maximum(0, largest - values) * steps // np.maximum(largest, 1))
    return np.where(values == 0, steps, times)


def table(values, part, tensors, steps):
    limits, largest = tensors[part["limits"]].astype(np.int64), tensors[part["largest"]].astype(np.int64)
    times = (values[..., None] * 2**20 < limits * largest[..., None]).sum(-1)
    return np.where(values == 0, steps, times)


OPS = {
    "pad": pad,
    "filter": filtered,
    "onoff": onoff,
    "normalise": normalise,
    "rank": rank,
    "latency": latency,
    "table": table,
}


def respond(times, layer, tensors, steps):
    """(times, potentials) of the neurons of a layer."""
    weight, groups = tensors[layer["weight"]], layer["groups"]
    seen = windows(times, steps, weight.shape[2:], layer["stride"], layer["padding"], layer["dilation"])
    rows, columns = seen.shape[1:3]
    inputs = seen.transpose(0, 3, 4, 1, 2).reshape(groups, -1, rows * columns)  # of each group
    synapses = weight.reshape(groups, len(weight) // groups, -1).astype(float)
    none = layer["threshold"] is None
    limit = 0 if none else tensors[layer["threshold"]][:, None, None]
    fired, potentials = np.full((len(weight), rows, columns), steps), np.zeros((len(weight), rows, columns), np.int64)
    for t in range(steps - 1 if none else 0, steps):
        heard = (synapses @ (inputs <= t)).reshape(fired.shape).astype(np.int64)
        fires = (fired == steps) & (heard > limit)
        fired[fires], potentials[fires] = t, heard[fires]
    return fired, potentials


def inhibited(times, potentials, steps):
    """Of each place the first feature to fire alone; the others are silent."""
    order = np.lexsort((np.arange(len(times))[:, None, None] + 0 * times, -potentials, times), 0)
    return np.where(np.arange(len(times))[:, None, None] == order[0], times, steps)


def pooled(times, pool, steps):
    seen = windows(times, steps, pool["kernel"], pool["stride"], pool["padding"])
    return np.sort(seen.reshape(*seen.shape[:3], -1), -1)[..., pool["earliest"] - 1]


def winner(times, potentials, decision, steps):
    if times.min() == steps:
        return [-1, -1, -1], -1
    first = np.lexsort((-potentials.reshape(-1), times.reshape(-1)))[0]  # stable: the first in flat order
    place = np.unravel_index(first, times.shape)
    return place, decision["classes"][place[0]]


def first_spike(times, decision, tensors, steps):
    weight, threshold = tensors[decision["weight"]].astype(float), tensors[decision["threshold"]].astype(np.int64)
    fired, heard, potential = (
        np.full(len(weight), NEVER),
        np.zeros(len(weight), np.int64),
        np.zeros(len(weight), np.int64),
    )
    for t in range(4 * steps + 1 if decision["ramp"] else steps):
        before, heard = heard, (weight @ (times.reshape(-1) <= min(t, steps - 1))).astype(np.int64)
        was, potential = potential, potential + before if decision["ramp"] else heard
        fires = (fired == NEVER) & (potential > threshold)
        fired[fires] = 256 * (t - 1) + 256 * (threshold - was)[fires] // (potential - was)[fires]
    first = np.argmin(fired) if fired.min() < NEVER else np.argmax(potential - threshold)
    return fired, first // decision["per_class"] if times.min() < steps else -1


def linear(times, decision, tensors, steps):
    scores = tensors[decision["bias"]] + tensors[decision["weight"]].astype(np.int64) @ (steps - times.reshape(-1))
    return scores, np.argmax(scores) if times.min() < steps else -1


def parts(model, image):
    """(times of each part in turn, answer, decision) of an image (C, H, W) of bytes."""
    (about, tensors), values, found = model, image.astype(np.int64), []
    steps, decision, potentials = about["time_steps"], about["decision"], None
    need(image.shape == tuple(about["image"]) and image.dtype == np.uint8, f"images are bytes {about['image']}")
    for part in about["encoder"]:
        values = OPS[part["op"]](values, part, tensors, steps)
    found.append(values)
    for stage in about["stages"]:
        given = values
        values, potentials = respond(given, stage["layer"], tensors, steps)
        found.append(values)
        if stage["inhibit"]:
            values = inhibited(values, potentials, steps)
            found.append(values)
        if stage["pool"] is not None:
            values = pooled(values, stage["pool"], steps)
            found.append(values)
        if stage["shortcut"] is not None:
            found.append(pooled(given, stage["shortcut"], steps))
            values = np.concatenate([values, found[-1]])
    if decision["op"] == "winner":
        return found, *winner(values, potentials, decision, steps)
    return found, *(linear if decision["op"] == "linear" else first_spike)(values, decision, tensors, steps)


def trace(model, images):
    """The traces of images (N, C, H, W) of bytes, one behind the other, as docs/integer.md says."""
    found = b""
    for image in images:
        times, answer, decision = parts(model, image)
        found += b"".join(part.astype(np.uint8).tobytes() for part in times)
        found += np.array([*answer, decision], "<i4").tobytes()
    return found


if __name__ == "__main__":
    model = read(sys.argv[1])
    shape = model[0]["image"]
    images = np.frombuffer(sys.stdin.buffer.read(), np.uint8)
    need(images.size % np.prod(shape) == 0, f"{images.size} bytes are no images of {shape}")
    sys.stdout.buffer.write(trace(model, images.reshape(-1, *shape)))
