"""What can be told of a layer that learns: how far it is, and why it may get nowhere."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch.snn import SpikingConvolution

_JUDGED = 500  # images below which chance decides


class TrainingWarning(UserWarning):
    """Why a network may not be learning, and what to change."""


@dataclass(frozen=True)
class Report:
    """A layer after its lesson.

    Attributes:
        layer: its number, from 1.
        convergence: mean of (w - lower) (upper - w) over (upper - lower)^2; 0.25 where all weights are undecided, 0
            where each is on a bound. None without the stabilizer, where weights lie on bounds from early on.
        silent: share of the images for which the layer passes nothing on.
        spikes: that the layer passes on per image, after pointwise inhibition, before pooling; as in the summary.
        wins: how often each feature learned, ``(features,)``.
        warnings: what was warned of while it learned.
        hints: what is no fault, but may explain a result.
    """

    layer: int
    convergence: float | None
    silent: float
    spikes: float
    wins: Tensor
    warnings: tuple[str, ...] = field(default=(), kw_only=True)
    hints: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def dead(self) -> int:
        """Features that never learned."""
        return int((self.wins == 0).sum())

    def __str__(self) -> str:
        decided = "" if self.convergence is None else f"convergence {self.convergence:.3f}, "
        text = (
            f"layer {self.layer}: {decided}{self.silent:.1%} of images silent, "
            f"{self.spikes:,.0f} spikes per image, {self.dead} of {len(self.wins)} features never learned"
        )
        return "\n".join([text, *(f"  hint: {hint}" for hint in self.hints)])


class Course(NamedTuple):
    """How a lesson went.

    Attributes:
        rows: of the history, one per period.
        wins: how often each feature learned, ``(features,)``.
        labels: of the images, ``(N,)``, or None.
    """

    rows: Sequence[Mapping[str, float]]
    wins: Tensor
    labels: Tensor | None


def convergence(weight: Tensor, bounds: tuple[float, float]) -> float:
    lower, upper = bounds
    return float(((weight - lower) * (upper - weight)).mean() / (upper - lower) ** 2)


def silence(layer: SpikingConvolution, times: Tensor) -> str | None:
    """Why nothing fires, where nothing does, so that nothing can be learned."""
    if bool((times == layer.time_steps).all()):
        return (
            f"its input is silent on all of {len(times)} images. Look at what lies below: filter thresholds that are "
            "too high for images of that range (such as 0..1 instead of 0..255), or a layer that never fires."
        )
    if bool((layer(times) < layer.time_steps).any()):
        return None
    highest, limit = _highest(layer, times), 0 if layer.threshold is None else float(layer.threshold.min())
    way = "Raise weight_mean."
    if highest > 0:
        way = (
            "Lower the threshold, or raise weight_mean; before a run begins, training.calibrate(network, images, "
            "share=0.1) finds one that lets a tenth of the neurons fire (in a list, None leaves a layer as it is)."
        )
    text = f"nothing fires: on {len(times)} images the largest potential is {highest:g}, the threshold {limit:g}"
    return f"{text}. {way}"


def _share(mask: Tensor) -> float:
    """How many are true, of all."""
    return int(mask.sum()) / mask.numel()


def before(layer: SpikingConvolution, times: Tensor) -> Iterator[str]:
    """What keeps a layer from learning, as a sample of its input shows."""
    fired = layer(times)
    silent = _share((fired == layer.time_steps).flatten(1).all(1))
    if silent > 0.1:
        own = "raise weight_mean" if layer.threshold is None else "lower the threshold, which training.calibrate finds"
        yield (
            f"{silent:.0%} of the images are silent, and teach nothing. Lower the thresholds of the filters (images on "
            f"another scale than they were chosen for, such as 0..1 instead of 0..255, look like that), or {own}."
        )
    spikes = int((times < layer.time_steps).sum()) / len(times)
    if spikes < layer.time_steps:
        yield (
            f"its input has {spikes:.1f} spikes per image, fewer than time steps, so there is little to learn from. "
            "Lower the thresholds of what lies below, or look at the scale of the images."
        )
    if layer.threshold is not None and _at_once(layer, layer.threshold, fired):
        yield (
            "nearly every neuron that fires does so at the first spike it sees, so the order of spikes says nothing. "
            "Raise the threshold (training.calibrate finds one that fits), or lower weight_mean."
        )


def _at_once(layer: SpikingConvolution, threshold: Tensor, fired: Tensor) -> bool:
    """Whether one spike is enough for nearly every synapse, or the first time step for nearly every neuron."""
    first = (fired == 0)[fired < layer.time_steps]
    return _share(layer.weight.flatten(1) > threshold.view(-1, 1)) > 0.9 or (len(first) > 0 and _share(first) > 0.9)


def on_bounds(weight: Tensor, bounds: tuple[float, float]) -> Iterator[str]:
    """Weights that a stabilizer keeps where they are."""
    lower, upper = bounds
    if float(((weight - lower) * (upper - weight)).clamp(min=0).mean()) < 1e-6 * (upper - lower) ** 2:
        yield (
            f"weights start on their bounds {bounds}, where the stabilizer, (w - lower) * (upper - w), is 0 and "
            f"nothing can change. Start between them (weight_mean={(lower + upper) / 2:g}), or set "
            "use_stabilizer=False."
        )


def signs(name: str, pair: Sequence[float], usual: tuple[int, int]) -> Iterator[str]:
    """Rates (LTP, LTD) whose signs are not those of what they are for."""
    ltp, ltd = (rate * sign for rate, sign in zip(pair, usual, strict=True))
    if ltp >= 0 and ltd >= 0:
        return
    rate, inputs = (usual[0], "made the winner fire") if ltp < 0 else (usual[1], "the winner did without")
    yield (
        f"`{name}` is {pair} for (LTP, LTD), usually {'(+, -)' if usual[0] > 0 else '(-, +)'}; "
        f"these {'weaken' if rate > 0 else 'strengthen'} what {inputs}: are they swapped?"
    )


def too_fast(rate: float, weight: Tensor, bounds: tuple[float, float], use_stabilizer: bool) -> Iterator[str]:
    """A single update that moves a weight most of its way; with the stabilizer, one that has not decided yet."""
    if use_stabilizer:
        if rate <= 1 or convergence(weight, bounds) < 0.1:
            return
    elif rate <= 0.5 * (bounds[1] - bounds[0]):
        return
    yield (
        f"with a rate of {rate:g} one update moves a weight most of its way, so that features hold the last images "
        "that they won, and no more. Lower the rates, or the limit of their schedule."
    )


def labels(labels: Tensor, classes: Tensor) -> Iterator[str]:
    """Classes that no decision can name."""
    unknown = sorted(set(labels.tolist()) - set(classes.tolist()))
    if unknown:
        yield (
            f"no feature stands for the labels {str(unknown)[1:-1]:.60}, so all decisions on their images are wrong, "
            "and punished. Let labels and the `classes` of the network count from the same number."
        )


_ADAPT = "let thresholds that nothing else moves adapt (Unsupervised(homeostasis=0.1))"


def winners(course: Course) -> Iterator[str]:
    """One feature that wins nearly always, or most that never do."""
    way = f"Choose more winners (kwta), {_ADAPT}, or take fewer features."
    return _idle(course, 0.75 * len(course.wins), "features", way, _ADAPT)


def deciding(course: Course) -> Iterator[str]:
    """As :func:`winners`, of features that decide, which have to share the work of their class."""
    way = "let more sit out (a larger dropout)"
    return _idle(course, len(course.wins) / 3, "deciding features", f"{way.capitalize()}.", way)


def _idle(course: Course, most: float, features: str, way: str, share: str) -> Iterator[str]:
    """One feature that wins nearly always, or more than ``most`` that never do; what else helps, and ``share`` both."""
    dominated = list(_dominated(course.wins, share))
    yield from dominated
    dead = int((course.wins == 0).sum())
    if not dominated and _judged(course) and dead > most:
        yield f"{dead} of {len(course.wins)} {features} never won, so they never learned. {way}"


def _dominated(wins: Tensor, share: str) -> Iterator[str]:
    if len(wins) > 3 and wins.max() > 0.9 * wins.sum() > 0:
        yield (
            f"feature {int(wins.argmax())} won {wins.max() / wins.sum():.0%} of the time, so the others hardly learn. "
            "Give the weights more spread (weight_std), lower the learning rates, choose more winners with an "
            f"inhibition radius (kwta), or {share}."
        )


def _judged(course: Course) -> bool:
    """Whether enough was seen to judge."""
    return course.rows[-1]["seen"] >= _JUDGED


def unanswered(heard: Tensor, winners: Tensor, blank: float) -> float:
    """The share of samples that nobody answers to, of those of whose inputs more than the share ``blank`` fired."""
    loud = check.wide(heard.flatten(1)).mean(1) > blank
    return int((loud & (winners[:, 0, 0] < 0)).sum()) / max(1, int(loud.sum()))


def silent_in_the_end(course: Course) -> Iterator[str]:
    """A layer that has weakened its weights, or raised its thresholds, until nothing fires."""
    silent = course.rows[-1]["silent"]
    if "unanswered" in course.rows[-1]:
        yield from _left_behind(course)
    elif silent > 0.1:
        yield (
            f"at the end {silent:.0%} of the images are silent, about which later layers learn nothing. "
            "Let depression (LTD) be weaker, or lower the threshold where there is one."
        )


def _left_behind(course: Course) -> Iterator[str]:
    """Thresholds that have risen beyond all potentials; where nobody answers nothing is learned."""
    shares = [row["unanswered"] for row in course.rows]
    late, mean = shares[9 * len(shares) // 10 :], sum(shares) / len(shares)
    last = sum(late) / len(late)
    if not _judged(course):
        return
    way = "Let them aim at an earlier time (target), by smaller steps (rate), from a lower start"
    if last > 0.2:
        yield (
            f"thresholds are beyond what the layer reaches: at the end nobody answers to {last:.0%} of the samples "
            f"that are not nearly blank. {way}; answering=0.7 lets the layer answer with lower ones than it learned."
        )
    elif mean > 0.25:
        yield (
            f"thresholds were beyond what the layer reaches, and fell again: {mean:.0%} of the samples that are not "
            f"nearly blank have taught nothing. {way}."
        )


def hasty(course: Course, kwta: int) -> Iterator[str]:
    """Weights that decided after few updates of a feature, or in the first tenth."""
    rows, share = course.rows, min(kwta, len(course.wins)) / len(course.wins)
    total = rows[-1]["seen"]
    for row in rows:
        reached, updates = row.get("convergence", 1), row["seen"] * share
        if total >= _JUDGED and ((reached < 0.01 and updates < 50) or (reached < 1e-4 and row["seen"] <= total / 10)):
            yield (
                f"weights decided within the first {row['seen']:.0f} of {total:.0f} images, after {updates:.0f} "
                f"updates of a feature (convergence {reached:.4f}), so features hold those. Lower the rates, or let "
                "them start lower (Doubling)."
            )
            return


def alike(course: Course, weight: Tensor) -> Iterator[str]:
    """Features that have decided, and for nearly the same: the mean cosine of any two that learned."""
    weight = weight.detach().cpu()[course.wins > 0]
    count = len(weight)
    if count < 3 or course.rows[-1].get("convergence", 1) > 0.02:
        return
    direction = nn.functional.normalize(weight.flatten(1), dim=1)
    overlap = float((direction.sum(0).square().sum() - count) / (count * (count - 1)))
    if overlap > 0.75:  # 0.1 to 0.57 in the published networks and those of the documentation
        yield (
            f"features look alike: any two overlap by {overlap:.0%}, as they learn from the same places. Let them "
            "compete (pointwise_inhibition=True, an inhibition_radius of about half the window, a lower kwta)."
        )


def undecided(course: Course) -> Iterator[str]:
    """Weights that have hardly moved, where a stabilizer lets them decide, of features many of which never won."""
    reached, dead = course.rows[-1].get("convergence", 0), int((course.wins == 0).sum())
    if reached > 0.1 and dead > 0.2 * len(course.wins) and _judged(course):
        yield (
            f"features have hardly begun to learn: weights are undecided (convergence {reached:.3f}; decided ones come "
            f"below 0.01), and {dead} of {len(course.wins)} features never won. Learn for more epochs, raise the "
            "rates, or their growth (Doubling(every=100)), choose more winners (kwta), or take fewer features."
        )


def chance(course: Course) -> Iterator[str]:
    """Hits of the last tenth of a lesson against those of always naming the most frequent class, and those before."""
    labels, tenths = course.labels, _tenths(course)
    if labels is None or not _judged(course):
        return
    below = 'whether they tell classes apart; then lower the rates, raise the punishment, or take correction="guess".'
    yield from _decisions(tenths, labels, below, "layer", "(Fading), or learn for fewer epochs.")


def _decisions(course: Sequence[float], labels: Tensor, below: str, which: str, fade: str) -> Iterator[str]:
    """Hits in the course of time, in the end against those by chance, and against the best before."""
    hits, best = course[-1], max(course)
    found = _near_chance(hits, labels)
    if found:
        yield f"{found}. Look at the layers below first, {below}"
    if best - hits > 0.1:
        yield (
            f"decisions were right for {best:.0%} of the images before, and are for {hits:.0%} at the end: the {which} "
            f"unlearns. Lower the rates, let them fade {fade}"
        )


def _near_chance(hits: float, labels: Tensor) -> str | None:
    """How little decisions are worth, where they are worth less than a third of what they could be."""
    chance = float(labels.bincount().max()) / len(labels)
    if (hits - chance) >= (1 - chance) / 3:
        return None
    more = "no more" if hits == chance else "less" if hits < chance else "not much more"
    more = "hardly more" if 0 < hits - chance < 0.1 * (1 - chance) else more
    return (
        f"decisions are right for {hits:.0%} of the images at the end, {more} than by always naming the most frequent "
        f"class, {chance:.0%}"
    )


def taught_times(rows: Sequence[Mapping[str, float]], labels: Tensor, unheard: float) -> Iterator[str]:
    """What went wrong where neurons are taught when to fire: rows of epochs, and the share of silent images."""
    if unheard > 0.05:
        yield (
            f"on {unheard:.0%} of the images no neuron fires at all, and the one nearest to its threshold decides. "
            "Lower `latency`, which gives the thresholds, or take ramp neurons where they are none."
        )
    if rows[-1]["latency"] > 1.2 * rows[0]["latency"]:
        yield (
            f"neurons fire later and later, at {rows[0]['latency']:.2f} T in the first epoch and at "
            f"{rows[-1]['latency']:.2f} T in the last: weights drift to inputs that rarely fire. Lower "
            "the rates, take an earlier `latency`, or learn with covariance=True where it is off."
        )
    if len(labels) < _JUDGED:
        return
    below = (
        "whether a linear read-out (training.Readout) tells classes apart from what they answer; then lower the rates, "
        "or learn for more epochs."
    )
    hits = [row["hits"] for row in rows]
    yield from _decisions(hits, labels, below, "read-out", "sooner (Decaying), or stop early (`patience`).")


def _tenths(course: Course) -> list[float]:
    """Mean hits of each tenth of a lesson in which a period ended."""
    rows = course.rows
    place = [math.ceil(10 * row["seen"] / rows[-1]["seen"]) for row in rows]
    found = [[row["hits"] for row, at in zip(rows, place, strict=True) if at == tenth] for tenth in range(1, 11)]
    return [sum(hits) / len(hits) for hits in found if hits]


def narrow(layer: SpikingConvolution, size: Sequence[int]) -> Iterator[str]:
    """Neurons that decide on a small part of a map of that size."""
    (height, width), (rows, columns) = _span(layer), size
    share = min(height, rows) * min(width, columns) / (rows * columns)
    if share < 0.25:
        yield (
            f"each deciding neuron sees {height} x {width} of {rows} x {columns} places, {share:.0%} of the image, and "
            "whatever looks alike in one place of it decides. Let the window be larger, as large as the map "
            f"(kernel_size=({rows}, {columns})), pool more below it, or make the images smaller."
        )


def few_images(seen: int) -> Iterator[str]:
    """What keeps the rows about winners, convergence and hits from being told."""
    if seen < _JUDGED:
        yield f"too few images seen to judge winners, convergence and hits: {seen}, which takes {_JUDGED}"


def window(layer: SpikingConvolution, size: Sequence[int]) -> Iterator[str]:
    """Neurons that decide on less than the whole map, of that size."""
    (height, width), (rows, columns) = _span(layer), size
    if height < rows or width < columns:
        yield (
            f"each deciding neuron sees {height} x {width} of {rows} x {columns} places, the one that answers best; if "
            "tests are much worse than training, let it see the whole map, or train on more images"
        )


def _span(layer: SpikingConvolution) -> tuple[int, int]:
    """Rows and columns that a neuron sees."""
    height, width = ((k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
    return height, width


def _highest(layer: SpikingConvolution, times: Tensor) -> float:
    """The largest potential that a layer reaches at the last step."""
    options = layer.geometry.options()
    _, potentials = latency.convolution_fire(times, layer.weight, None, time_steps=layer.time_steps, **options)
    return float(potentials.max())
