"""Networks of integers in NumPy alone, to be believed rather than fast: docs/integer.md, line by line.

    python reference.py MODEL < images > traces

Sums that are many are taken in float64, which adds integers exactly up to 2^53; none here is above 2^31.
"""

import sys
from typing import Any

import numpy as np

if __package__:
    from spyketorch.export.runtimes.reading import need, read
else:
    from reading import need, read  # type: ignore

NEVER = 2**31 - 1


def windows(maps, outside, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    """What each place sees, (features, rows, columns, kernel rows, kernel columns)."""
    around = np.pad(maps, [(0, 0), *((p, p) for p in padding)], constant_values=outside)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(around, spans, (1, 2))
    return seen[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def encode(values, part, tensors, steps):
    """What one part of the encoder makes of maps of integers; the last one makes times."""
    match part["op"]:
        case "pad":
            sides = [(0, 0), (part["top"], part["bottom"]), (part["left"], part["right"])]
            return np.pad(values, sides, "edge" if part["edge"] else "constant")
        case "filter":
            kernels, threshold = tensors[part["weight"]], tensors[part["threshold"]][:, None, None]
            groups = values.reshape(-1, kernels.shape[1], *values.shape[1:])  # of the channels that are read at once
            seen = np.stack([windows(group, 0, kernels.shape[2:]) for group in groups]).astype(float)
            sums = np.einsum("gdyxij,kdij->gkyx", seen, kernels.astype(float), optimize=True).astype(np.int64)
            sums = np.where(sums < threshold, 0, sums).reshape(-1, *sums.shape[2:])
            return np.abs(sums) if part["absolute"] else sums
        case "onoff":
            return np.stack([np.maximum(0, values), np.maximum(0, -values)], 1).reshape(-1, *values.shape[1:])
        case "normalise":
            side, radius = 2 * part["radius"] + 1, part["radius"]
            sums = windows(values, 0, (side, side), padding=(radius, radius)).sum((3, 4))
            return np.where(sums > 0, (values << part["shift"]) // np.maximum(sums, 1), 0)
        case "rank":
            count, ranks = np.count_nonzero(values), np.arange(values.size)
            each, times = max(1, count // steps), np.full(values.size, steps)
            order = np.argsort(-values.reshape(-1), kind="stable")
            times[order] = np.where((ranks < count) & (ranks < each * steps), ranks // each, steps)
            return times.reshape(values.shape)
    largest = tensors[part["largest"]].astype(np.int64)
    if part["op"] == "latency":
        times = np.minimum(steps - 1, np.maximum(0, largest - values) * steps // np.maximum(largest, 1))
    else:
        times = (values[..., None] * 2**20 < tensors[part["limits"]].astype(np.int64) * largest[..., None]).sum(-1)
    return np.where(values == 0, steps, times)


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


def decide(times, potentials, decision, tensors, steps):
    """(answer, decision) of the times of the last stage."""
    inputs, silent = times.reshape(-1), times.min() == steps
    if decision["op"] == "winner":
        first = np.lexsort((-potentials.reshape(-1), inputs))[0]  # stable: the first in flat order
        place = np.unravel_index(first, times.shape)
        return ([-1, -1, -1], -1) if silent else (place, decision["classes"][place[0]])
    weight = tensors[decision["weight"]].astype(float)
    if decision["op"] == "linear":
        scores = tensors[decision["bias"]] + (weight @ (steps - inputs)).astype(np.int64)
        return scores, -1 if silent else np.argmax(scores)
    limit, fired = tensors[decision["threshold"]].astype(np.int64), np.full(len(weight), NEVER)
    heard, potential = np.zeros_like(limit), np.zeros_like(limit)
    for t in range(4 * steps + 1 if decision["ramp"] else steps):
        before, heard = heard, (weight @ (inputs <= min(t, steps - 1))).astype(np.int64)
        was, potential = potential, potential + before if decision["ramp"] else heard
        fires = (fired == NEVER) & (potential > limit)
        fired[fires] = 256 * (t - 1) + 256 * (limit - was)[fires] // (potential - was)[fires]
    first = np.argmin(fired) if fired.min() < NEVER else np.argmax(potential - limit)
    return fired, -1 if silent else first // decision["per_class"]


def parts(model: Any, image: np.ndarray) -> tuple[list[np.ndarray], Any, int]:
    """(times of each part in turn, answer, decision) of an image (C, H, W) of bytes."""
    (about, tensors), values, potentials, found = model, image.astype(np.int64), None, []
    need(image.shape == tuple(about["image"]) and image.dtype == np.uint8, f"images are bytes {about['image']}")
    steps = about["time_steps"]
    for part in about["encoder"]:
        values = encode(values, part, tensors, steps)
    found.append(values)
    for stage in about["stages"]:
        given, (values, potentials) = values, respond(values, stage["layer"], tensors, steps)
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
    return found, *decide(values, potentials, about["decision"], tensors, steps)


def trace(model, images):
    """The traces of images (N, C, H, W) of bytes, one behind the other, as docs/integer.md says."""
    found = []
    for image in images:
        times, answer, decision = parts(model, image)
        found += [part.astype(np.uint8).tobytes() for part in times]
        found.append(np.array([*answer, decision], "<i4").tobytes())
    return b"".join(found)


if __name__ == "__main__":
    model = read(sys.argv[1])
    shape = model[0]["image"]
    images = np.frombuffer(sys.stdin.buffer.read(), np.uint8)
    need(images.size % np.prod(shape) == 0, f"{images.size} bytes are no images of {shape}")
    sys.stdout.buffer.write(trace(model, images.reshape(-1, *shape)))
