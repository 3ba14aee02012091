"""The slow, obvious twin of spyketorch: plain loops on float64 numpy arrays, one sample at a time.

Written from the specification alone. Waves and potentials are `(T, C, H, W)`, intensities `(C, H, W)`.
"""

import math

import numpy as np


def pair(value):
    """A number or a (row, column) pair as a pair."""
    return (int(value), int(value)) if np.ndim(value) == 0 else tuple(int(v) for v in value)


def pad(wave, pad, value=0):
    """Border of `value` around every frame; pad = (left, right, top, bottom)."""
    left, right, top, bottom = pad
    steps, channels, height, width = wave.shape
    out = np.full((steps, channels, top + height + bottom, left + width + right), value, wave.dtype)
    for y in range(height):
        for x in range(width):
            out[:, :, top + y, left + x] = wave[:, :, y, x]
    return out


def pooling(wave, kernel_size, stride=None, padding=0):
    """Largest value of each window that lies inside the frame."""
    kernel, step, margin = pair(kernel_size), pair(kernel_size if stride is None else stride), pair(padding)
    height, width = wave.shape[2:]
    size = output_size((height, width), kernel, step, margin)
    out = np.zeros((*wave.shape[:2], *size), wave.dtype)
    for t, c, r, k in np.ndindex(out.shape):
        top, left = r * step[0] - margin[0], k * step[1] - margin[1]
        rows = [y for y in range(top, top + kernel[0]) if 0 <= y < height]
        columns = [x for x in range(left, left + kernel[1]) if 0 <= x < width]
        out[t, c, r, k] = max(wave[t, c, y, x] for y in rows for x in columns)
    return out


def later_pooling(wave, kernel_size, stride=None, padding=0, earliest=1):
    """1 from the first step at which `earliest` neurons of the window have fired."""
    kernel, step, margin = pair(kernel_size), pair(kernel_size if stride is None else stride), pair(padding)
    height, width = wave.shape[2:]
    out = np.zeros((*wave.shape[:2], *output_size((height, width), kernel, step, margin)), wave.dtype)
    for t, c, r, k in np.ndindex(out.shape):
        top, left = r * step[0] - margin[0], k * step[1] - margin[1]
        fired = 0
        for y in range(top, top + kernel[0]):
            for x in range(left, left + kernel[1]):
                fired += 0 <= y < height and 0 <= x < width and wave[t, c, y, x] == 1
        out[t, c, r, k] = fired >= earliest
    return out


def output_size(shape, kernel, stride=1, padding=0, dilation=1):
    """Rows and columns of the output of a convolution or pooling."""
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    return tuple((shape[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))


def receptive_field(neuron, weight_shape, stride=1, padding=0, dilation=1, groups=1):
    """Pairs (place in the feature's kernel, place in the input) of one output neuron; input places may lie outside."""
    (feature, row, column), (features, channels, kh, kw) = neuron, weight_shape
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    first = feature // (features // groups) * channels
    for c, i, j in np.ndindex(channels, kh, kw):
        y = row * stride[0] - padding[0] + i * dilation[0]
        x = column * stride[1] - padding[1] + j * dilation[1]
        yield (c, i, j), (first + c, y, x)


def convolution(wave, weight, **geometry):
    """Potentials: at each step the sum of weight * input over the receptive field."""
    steps, _, height, width = wave.shape
    sizes = {k: v for k, v in geometry.items() if k != "groups"}
    out = np.zeros((steps, weight.shape[0], *output_size((height, width), weight.shape[2:], **sizes)))
    for neuron in np.ndindex(out.shape[1:]):
        for place, (c, y, x) in receptive_field(neuron, weight.shape, **geometry):
            if 0 <= y < height and 0 <= x < width:
                for t in range(steps):
                    out[(t, *neuron)] += weight[(neuron[0], *place)] * wave[t, c, y, x]
    return out


def neuron_potentials(heard, neuron):
    """Potentials over time of neurons that have heard this much: one step after the other."""
    out, potential, before = np.zeros_like(heard), np.zeros_like(heard[0]), np.zeros_like(heard[0])
    for t in range(len(heard)):
        for place in np.ndindex(potential.shape):
            potential[place] = neuron.step(potential[place], before[place], heard[(t, *place)])
        out[t], before = potential, heard[t]
    return out


def fire(potentials, threshold=None, latch=False):
    """Spikes, and the potentials where there is a spike; threshold a number, one per feature, or None."""
    spikes, kept = np.zeros_like(potentials), np.zeros_like(potentials)
    steps, channels = potentials.shape[:2]
    limits = None if threshold is None else np.broadcast_to(threshold, (channels,))
    for t, c, y, x in np.ndindex(potentials.shape):
        p = potentials[t, c, y, x]
        if (p > 0 and t == steps - 1) if limits is None else p > limits[c]:
            spikes[t, c, y, x], kept[t, c, y, x] = 1, p
    if latch:
        for t in range(1, steps):
            spikes[t] = np.maximum(spikes[t], spikes[t - 1])
            kept[t] = np.maximum(kept[t], kept[t - 1])
    return spikes, kept


def first_spikes(wave):
    """Step of each neuron's first non-zero entry, T where there is none."""
    steps = wave.shape[0]
    times = np.full(wave.shape[1:], steps)
    for c, y, x in np.ndindex(times.shape):
        for t in reversed(range(steps)):
            if wave[t, c, y, x] != 0:
                times[c, y, x] = t
    return times


def pointwise_inhibition(thresholded):
    """At each position the earliest feature stays (then largest potential at that step, then lowest index)."""
    times, out = first_spikes(thresholded), np.zeros_like(thresholded)
    steps, channels, height, width = thresholded.shape
    for y in range(height):
        for x in range(width):
            fired = [
                (times[c, y, x], -thresholded[times[c, y, x], c, y, x], c)
                for c in range(channels)
                if times[c, y, x] < steps
            ]
            if fired:
                winner = min(fired)[2]
                out[:, winner, y, x] = thresholded[:, winner, y, x]
    return out


def feature_inhibition(potentials, features):
    """The listed feature maps become 0."""
    out = potentials.copy()
    for f in features:
        out[:, f] = 0
    return out


def get_k_winners(potentials, kwta=1, inhibition_radius=0, spikes=None):
    """Winners one after the other by the float32 score; each silences its feature and its radius."""
    steps = potentials.shape[0]
    spikes = potentials > 0 if spikes is None else spikes
    spikes, potentials = spikes.astype(np.float32), potentials.astype(np.float32)
    value = np.zeros(potentials.shape[1:], np.float32)
    for place in np.ndindex(value.shape):
        n = int(sum(spikes[(t, *place)] for t in range(steps)))
        value[place] = potentials[(min(max(steps - n, 0), steps - 1), *place)]
    v = np.float32(steps) * np.max(spikes * value)
    score = np.zeros_like(value)
    for t in range(steps):
        score += spikes[t] * value + spikes[t] * v
    score[value == 0] = 0
    winners = []
    while len(winners) < kwta and score.max() > 0:
        f, y, x = max(np.ndindex(score.shape), key=lambda place: (score[place], tuple(-i for i in place)))
        winners.append((f, y, x))
        score[f] = 0
        if inhibition_radius > 0:
            for _, row, column in np.ndindex(score.shape):
                if abs(row - y) <= inhibition_radius and abs(column - x) <= inhibition_radius:
                    score[:, row, column] = 0
    return winners


def ordering(input_spikes, output_spikes, winners, weight_shape, **geometry):
    """For each winner where its inputs' sum over time reaches the winner's own (in the padding the sum is 0)."""
    counts = receptive_field_counts(input_spikes, winners, weight_shape, **geometry)
    return [count >= output_spikes[:, f, y, x].sum() for count, (f, y, x) in zip(counts, winners, strict=True)]


def receptive_field_counts(input_spikes, winners, weight_shape, **geometry):
    """For each winner the sums over time of the inputs in its receptive field."""
    height, width = input_spikes.shape[2:]
    counts = []
    for winner in winners:
        count = np.zeros(weight_shape[1:])
        for place, (c, y, x) in receptive_field(winner, weight_shape, **geometry):
            if 0 <= y < height and 0 <= x < width:
                for t in range(input_spikes.shape[0]):
                    count[place] += input_spikes[t, c, y, x]
        counts.append(count)
    return counts


def stdp(weight, input_spikes, output_spikes, winners, rates, stabilizer=True, lower=0, upper=1, **geometry):
    """Weights after one call; rates is a (LTP, LTD) pair for each feature."""
    out = weight.copy()
    causal = ordering(input_spikes, output_spikes, winners, weight.shape, **geometry)
    for (f, _, _), early in zip(winners, causal, strict=True):
        for place in np.ndindex(early.shape):
            w = weight[(f, *place)]
            rate = rates[f][0] if early[place] else rates[f][1]
            out[(f, *place)] = w + rate * ((w - lower) * (upper - w) if stabilizer else 1)
    return np.minimum(np.maximum(out, lower), upper)


def rstdp(weight, input_spikes, output_spikes, winners, outcome, reward, punishment, **options):
    """Weights after one call: an outcome above 0 learns at the reward rates, below 0 at the punishment rates."""
    if outcome == 0:
        return weight.copy()
    rates = [(abs(outcome) * a, abs(outcome) * b) for a, b in (reward if outcome > 0 else punishment)]
    return stdp(weight, input_spikes, output_spikes, winners, rates, **options)


def intensity_lateral_inhibition(intensities, kernel):
    """Each intensity times 1 + the kernel's entries over the strictly smaller neighbours (0 outside the image)."""
    out, radius = intensities.copy(), kernel.shape[0] // 2
    channels, height, width = intensities.shape
    for c, y, x in np.ndindex(channels, height, width):
        factor = 1.0
        for i, j in np.ndindex(kernel.shape):
            row, column = y + i - radius, x + j - radius
            inside = 0 <= row < height and 0 <= column < width
            if (intensities[c, row, column] if inside else 0) < intensities[c, y, x]:
                factor += kernel[i, j]
        out[c, y, x] = intensities[c, y, x] * factor
    return out


def local_normalization(intensities, radius, eps=1e-12):
    """Divide by eps + the mean over a square window; places outside the image count as 0 and are counted."""
    out = np.zeros_like(intensities)
    for c, y, x in np.ndindex(intensities.shape):
        window = intensities[c, max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        out[c, y, x] = intensities[c, y, x] / (window.sum() / (2 * radius + 1) ** 2 + eps)
    return out


def local_contrast(intensities, radius, floor):
    """Divide by floor + the mean over a square window and all maps; maps go on as they end."""
    padded = np.pad(intensities.mean(0), radius, mode="edge")
    out = np.zeros_like(intensities)
    for c, y, x in np.ndindex(intensities.shape):
        out[c, y, x] = intensities[c, y, x] / (padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1].mean() + floor)
    return out


def generate_inhibition_kernel(percents):
    """Square kernel: percents[d - 1] at Chebyshev distance d, 0 in the centre."""
    radius = len(percents)
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    for i, j in np.ndindex(kernel.shape):
        distance = max(abs(i - radius), abs(j - radius))
        kernel[i, j] = percents[distance - 1] if distance else 0
    return kernel


def normalized_kernel(window_size, function):
    """function(row, column) over -w..w, w = window // 2, minus its mean, over its maximum."""
    w = window_size // 2
    kernel = np.array([[function(x, y) for y in range(-w, w + 1)] for x in range(-w, w + 1)])
    kernel = kernel - kernel.mean()
    return kernel / kernel.max()


def dog_kernel(window_size, sigma1, sigma2):
    """Difference of two normalised Gaussians."""

    def gauss(square, sigma):
        return math.exp(-square / (2 * sigma**2)) / (2 * math.pi * sigma**2)

    return normalized_kernel(window_size, lambda x, y: gauss(x * x + y * y, sigma1) - gauss(x * x + y * y, sigma2))


def whitening(images, components, window, regularization, patches, seed):
    """Kernels `(C, C, w, w)` of the middle of whitened patches, of images `(N, C, H, W)`."""
    count, channels, height, width = images.shape
    places, rows = np.random.default_rng(seed).random((count, patches, 2)), []
    for image, drawn in zip(images, places, strict=True):
        for y, x in drawn:
            top, left = int(y * (height - window + 1)), int(x * (width - window + 1))
            rows.append(image[:, top : top + window, left : left + window].ravel())
    covariance = np.cov(np.array(rows), rowvar=False, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    spread = values + regularization * np.trace(covariance) / len(covariance)
    whitened = np.zeros_like(covariance)
    for i in np.argsort(values)[::-1][:components]:
        whitened += np.outer(vectors[:, i], vectors[:, i]) / np.sqrt(spread[i])
    kernels = np.zeros((channels, channels, window, window))
    for c, plane in np.ndindex(channels, channels):
        middle = c * window**2 + window**2 // 2
        kernel = whitened[middle].reshape(channels, window, window)[plane]
        kernels[c, plane] = kernel - kernel.mean()
    return kernels


def equalized(values, training, steps):
    """Times of values 0..1 by the share of training values above 0 that are stronger, told apart to a 2,048th."""

    def level(value):
        fraction, power = np.frexp(value)  # value = fraction * 2^power, the fraction in 1/2..1
        return min(31, power + 31), min(2047, int((2 * fraction - 1) * 2048)) if value < 1 else 2047

    known = [level(v) for v in training.ravel() if v > 0]
    times = np.full(values.shape, steps)
    for place in np.ndindex(values.shape):
        if values[place] > 0:
            stronger = sum(other > level(values[place]) for other in known)
            times[place] = min(steps - 1, steps * stronger // len(known))
    return times


def gabor_kernel(window_size, orientation, div=4.0):
    """Gabor function of an orientation in degrees."""
    length = 2 * window_size / div
    sigma, gamma, angle = 0.8 * length, 0.3, math.radians(orientation)

    def gabor(x, y):
        along = y * math.sin(angle) + x * math.cos(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = math.exp(-(along**2 + gamma**2 * across**2) / (2 * sigma**2))
        return envelope * math.cos(2 * math.pi * along / length)

    return normalized_kernel(window_size, gabor)


def filter_image(image, kernels, padding=0, thresholds=None, use_abs=False):
    """Responses `(K', H', W')` of an image `(H, W)` or `(C, H, W)`; below the threshold 0, then absolute if asked.

    A kernel of two dimensions answers each channel, channel by channel; one of three reads all of them.
    """
    image = image.reshape(-1, *image.shape[-2:])
    if kernels[0].ndim == 2 and len(image) > 1:
        return np.concatenate([filter_image(plane, kernels, padding, thresholds, use_abs) for plane in image])
    size = max(k.shape[-1] for k in kernels)
    weight = np.zeros((len(kernels), len(image), size, size))
    for k, kernel in enumerate(kernels):
        margin = (size - kernel.shape[-1]) // 2
        for *c, i, j in np.ndindex(kernel.shape):
            weight[k, c[0] if c else 0, margin + i, margin + j] = kernel[(*c, i, j)]
    out = convolution(image[None], weight, padding=padding)[0]
    if thresholds is not None:
        limits = np.broadcast_to(thresholds, (len(kernels),))
        for place in np.ndindex(out.shape):
            if out[place] < limits[place[0]]:
                out[place] = 0
    return np.abs(out) if use_abs else out


def rank_order(intensities, time_steps):
    """First-spike times: ranks of the descending stable sort cut into bins of n // T, the rest silent."""
    flat = intensities.reshape(-1)
    order = sorted(range(flat.size), key=lambda i: -flat[i])
    nonzero = sum(1 for v in flat if v != 0)
    size = max(nonzero // time_steps, 1)
    times = np.full(flat.shape, time_steps)
    for rank, i in enumerate(order[: min(nonzero, size * time_steps)]):
        times[i] = rank // size
    return times.reshape(intensities.shape)


def linear(values, time_steps):
    """First-spike times that fall in a straight line with values 0..1; 0 is silent, what is larger than 1 first."""
    times = np.full(values.shape, time_steps)
    for place in np.ndindex(values.shape):
        if values[place] > 0:
            times[place] = max(0, min(time_steps - 1, math.floor((1 - values[place]) * time_steps)))
    return times


def intensity_to_latency(intensities, time_steps, to_spike=False):
    """Cumulative wave that holds each intensity, or its sign, from its time step on."""
    times = rank_order(intensities, time_steps)
    wave = np.zeros((time_steps, *intensities.shape))
    for t, *place in np.ndindex(wave.shape):
        if t >= times[tuple(place)]:
            value = intensities[tuple(place)]
            wave[(t, *place)] = np.sign(value) if to_spike else value
    return wave


def get_deep_receptive_field(*layers):
    """Input window of one neuron on top of layers of (height, width, row stride, column stride)."""
    h = w = 1
    for height, width, row_stride, column_stride in reversed(layers):
        h, w = height + (h - 1) * row_stride, width + (w - 1) * column_stride
    return h, w


def get_deep_feature(feature, feature_stride, window_size, stride, weights=None):
    """One layer of feature reconstruction and the new stride: pooling centres, convolution paints the strongest."""
    channels, height, width = feature.shape
    size = [n + (window_size[i] - 1) * feature_stride[i] for i, n in enumerate((height, width))]
    if weights is None:
        out = np.zeros((channels, *size))
        top, left = size[0] // 2 - height // 2, size[1] // 2 - width // 2
        out[:, top : top + height, left : left + width] = feature
    else:
        out = np.zeros((len(weights), *size))
        for f, i, j in np.ndindex(len(weights), *window_size):
            for y, x in np.ndindex(height, width):
                strongest = max(feature[c, y, x] * weights[f, c, i, j] for c in range(channels))
                out[f, i * feature_stride[0] + y, j * feature_stride[1] + x] += strongest
        out = np.maximum(out, 0)
    return out, (feature_stride[0] * stride[0], feature_stride[1] * stride[1])


def input_potentials(times, post, winner, weight_shape, reached, time_steps, **geometry):
    """Of the inputs of a winner that fires at step ``post``, the share of their threshold: (C, rows, columns)."""
    potentials = np.zeros(times.shape)
    for place in np.ndindex(*times.shape):
        t = times[place]
        if t <= post:
            potentials[place] = 1
        elif t < time_steps or reached is None:  # on its way to a threshold that it reaches at t
            potentials[place] = (post + 1) / (t + 1)
        else:
            potentials[place] = reached[place] * (post + 1) / (time_steps + 1)
    outside = (post + 1) / (time_steps + 1) if reached is None else 0
    found = np.full(weight_shape[1:], float(outside))
    for synapse, place in receptive_field(winner, weight_shape, **geometry):
        if all(0 <= i < size for i, size in zip(place[1:], times.shape[1:], strict=True)):
            found[synapse] = potentials[place]
    return found


def vdsp(weight, potentials, causal, rates, rest, lower=0, upper=1):
    """The weights (C, rows, columns) of a winner, learned from the potentials of its inputs: Garg et al. 2022."""
    learned = np.array(weight, dtype=float)
    for place in np.ndindex(*weight.shape):
        u = (weight[place] - lower) / (upper - lower)
        if causal[place]:
            learned[place] += rates[0] * (1 - u)
        else:
            learned[place] += rates[1] * u * (rest + (1 - rest) * potentials[place])
    return np.clip(learned, lower, upper)


def target_time(weight, threshold, times, time_steps, adaptation, multiplicative):
    """One patch (C, rows, columns) learned by one winner, in place: Falez et al. 2019; gives the winner, or -1."""
    target, rate, floor = adaptation
    features, winner, when = len(weight), -1, None
    for t in range(time_steps):
        potentials = [sum(weight[f][times <= t]) for f in range(features)]
        above = [f for f in range(features) if potentials[f] > threshold[f]]
        if above:
            winner, when = max(above, key=lambda f: (potentials[f] - threshold[f], -f)), t
            break
    if winner < 0:
        if (times < time_steps).mean() > 0.25:
            threshold[:] = np.maximum(threshold - rate * (1 - target), floor)
        return winner
    for place in np.ndindex(*times.shape):
        w, causal = weight[winner][place], times[place] <= when
        if multiplicative:
            w += 0.1 * math.exp(-w) if causal else -0.1 * math.exp(w - 1)
        else:
            w += 0.1 if causal else -0.1
        weight[winner][place] = min(max(w, 0), 1)
    for f in range(features):
        moved = threshold[f] - rate * (when / time_steps - target) + (rate if f == winner else -rate / (features - 1))
        threshold[f] = max(moved, floor)
    return winner


def response(kind, age):
    """The potential that an input of weight 1 gives so long after it fired; kind is ("ramp", d) or ("step",)."""
    if kind[0] == "ramp":
        return max(age, 0) / kind[1]
    return 1.0 if age >= 0 else 0.0


def exact_times(weight, threshold, times, time_steps, horizon, kind):
    """When each neuron that hears all inputs fires, between the steps, inf for never; and its potential in the end."""
    fired, last = [], []
    for w, limit in zip(weight, threshold, strict=True):
        heard = [(w[i], times[i]) for i in range(len(times)) if times[i] < time_steps]

        def potential(t, heard=heard):
            return sum(value * response(kind, t - time) for value, time in heard)

        when, was = math.inf, 0.0
        for t in range(math.floor(horizon) + 1):  # silence goes on after the last step
            now = potential(t)
            if now > limit or (t >= time_steps and now == limit and now > was):
                when = t - (now - limit) / (now - was)
                break
            was = now
        fired.append(when)
        last.append(potential(horizon))
    return np.array(fired), np.array(last)


def supervised_stdp(weight, threshold, lifted, total, times, label, how):
    """One sample learned by S2-STDP with competition groups, in place: RULES A8 and A9; the class that was decided.

    With `expected` not None all inputs are depressed by it, and weights weighed by it keep their sum.
    """
    time_steps, horizon, per_class = how["time_steps"], how["horizon"], how["per_class"]
    classes, taught, expected = len(weight) // per_class, per_class - how["non_target"], how["expected"]
    own = range(label * per_class, label * per_class + taught)
    limit = np.array([lifted[f] if f in own else threshold[f] for f in range(len(weight))])
    fired, last = exact_times(weight, limit, times, time_steps, horizon, how["kind"])
    rank = lambda f: (fired[f], -last[f], f)  # noqa: E731
    winners = [min(range(c * per_class, (c + 1) * per_class), key=rank) for c in range(classes)]
    known = [fired[f] for f in winners if math.isfinite(fired[f])]
    mean = (sum(known) / len(known) if known else horizon) / time_steps
    for c, f in enumerate(winners):
        right = c == label and f in own
        target = mean - how["gap"] * (classes - 1) / classes if right else mean + how["gap"] / classes
        when = min(fired[f], horizon)
        error = when / time_steps - target
        for i, time in enumerate(times):
            heard = time < time_steps
            if how["kind"][0] == "ramp":
                helps = max(when - time, 0) / how["kind"][1] if heard else 0
            else:
                helps = 1 if heard and time <= math.ceil(when) else 0  # whole steps
            if expected is not None:
                weight[f, i] += error * (how["ltp"] * helps + how["ltd"] * expected[i])
            else:
                weight[f, i] += error * (how["ltp"] * helps if helps > 0 else how["ltd"])
        weight[f] = np.clip(weight[f], 0, 1)
        kept = weight[f].sum() if expected is None else (weight[f] * expected).sum()
        if kept > 0:
            weight[f] *= total[f] / kept
    if how["lift"] > 0 and any(math.isfinite(fired[f]) for f in own):
        first = min(own, key=lambda f: fired[f])
        for f in own:
            share = (taught - 1) / taught if f == first else -1 / taught
            lifted[f] = max(lifted[f] + how["lift"] * share * threshold[f], threshold[f])
    return min(winners, key=rank) // per_class
