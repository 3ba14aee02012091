"""Layer-by-layer training: each layer learns from the stored first spikes of the finished ones below it.

A :class:`Trainer` takes a :class:`spyketorch.models.Network` and one lesson per layer: :class:`Unsupervised` (STDP) or
:class:`Reinforced` (R-STDP). Images are learned one after the other, each with the weights that the one before left;
where a run is stopped and resumed does not change a bit of the result.
"""

import hashlib
import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch._files import atomic
from spyketorch.learning import RSTDP, STDP
from spyketorch.models import Network, Stage

_BATCH = 500  # images that a finished layer answers at once


class TrainingWarning(UserWarning):
    """Why a network may not be learning, and what to change."""


# Learning rates over time


@dataclass(frozen=True)
class Progress:
    """Where a lesson stands, and how the last period went.

    Attributes:
        seen: images learned so far, all epochs together.
        total: images of the whole lesson.
        hits, misses, silent: shares of the last period's images that were decided right, wrong, not at all.
    """

    seen: int
    total: int
    hits: float = 0.0
    misses: float = 1.0
    silent: float = 0.0


class Schedule(Protocol):
    """Factors on the learning rates of reward (or plain STDP) and of punishment, from the state of the lesson alone."""

    def __call__(self, progress: Progress) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Constant:
    """Rates as given."""

    def __call__(self, progress: Progress) -> tuple[float, float]:
        return 1.0, 1.0


@dataclass(frozen=True)
class Doubling:
    """Start slowly, so that features part, then double every ``every`` images up to ``limit`` times the rates.

    The published networks go from an LTP rate of 0.004 to 0.15, a factor of 37.5.
    """

    every: int = 500
    limit: float = 37.5

    def __call__(self, progress: Progress) -> tuple[float, float]:
        factor = min(2.0 ** (progress.seen // self.every), self.limit)
        return factor, factor


@dataclass(frozen=True)
class Fading:
    """From the full rates at the start to ``to`` times the rates at the end, in a straight line."""

    to: float = 0.05

    def __call__(self, progress: Progress) -> tuple[float, float]:
        factor = 1 - (1 - self.to) * progress.seen / progress.total
        return factor, factor


@dataclass(frozen=True)
class Adaptive:
    """Rewards count more the more mistakes there are, punishments the more hits: shares of the last period.

    Mozafari et al. 2018, equations 4 and 5. ``floor`` is the least factor.
    """

    floor: float = 0.0

    def __call__(self, progress: Progress) -> tuple[float, float]:
        return max(progress.misses, self.floor), max(progress.hits, self.floor)


@dataclass(frozen=True)
class Combined:
    """The product of several schedules, such as ``Combined((Adaptive(), Fading()))``."""

    schedules: tuple[Schedule, ...]

    def __call__(self, progress: Progress) -> tuple[float, float]:
        factors = [schedule(progress) for schedule in self.schedules]
        return math.prod(f[0] for f in factors), math.prod(f[1] for f in factors)


# Lessons


@dataclass(frozen=True)
class Unsupervised:
    """Features by STDP, without labels.

    Args:
        kwta, inhibition_radius, pointwise_inhibition: who learns, as in :meth:`spyketorch.learning.STDP.learn`.
        rates: (LTP, LTD).
        schedule: factors on the rates, renewed each period.
        bounds, use_stabilizer: as for :class:`spyketorch.learning.STDP`.
        epochs: passes over the images.
        period: images between two looks at the schedule, and between two checkpoints.
        minibatch: images that answer with the same weights before their updates are applied in order. 1 is exactly
            online. Larger ones suit a GPU; what they cost in accuracy is in docs/training.md.
        homeostasis: how far thresholds move, as a share, for a feature that wins twice its part of the time; features
            that win less get lower ones. 0 keeps thresholds as they are.
    """

    kwta: int = 1
    inhibition_radius: int = 0
    pointwise_inhibition: bool = True
    rates: tuple[float, float] = (0.004, -0.003)
    schedule: Schedule = field(default_factory=Doubling)
    bounds: tuple[float, float] = (0.0, 1.0)
    use_stabilizer: bool = True
    epochs: int = 1
    period: int = 500
    minibatch: int = 1
    homeostasis: float = 0.0

    def rule(self, stage: Stage) -> STDP:
        return STDP(stage.layer, self.rates, self.use_stabilizer, *self.bounds)


@dataclass(frozen=True)
class Reinforced:
    """Decisions by R-STDP: the first winner names the class and is rewarded or punished.

    Args:
        kwta, inhibition_radius, pointwise_inhibition, correction: as in :meth:`spyketorch.learning.RSTDP.learn`.
        reward, punishment: (LTP, LTD) of right and of wrong decisions.
        dropout: share of the features that sit out each image, chosen anew.
        schedule, bounds, use_stabilizer, epochs, period: as for :class:`Unsupervised`.
    """

    kwta: int = 1
    inhibition_radius: int = 0
    pointwise_inhibition: bool = False
    correction: str | None = None
    reward: tuple[float, float] = (0.004, -0.003)
    punishment: tuple[float, float] = (-0.004, 0.0005)
    schedule: Schedule = field(default_factory=Adaptive)
    dropout: float = 0.0
    bounds: tuple[float, float] = (0.2, 0.8)
    use_stabilizer: bool = False
    epochs: int = 1
    period: int = 500

    def rule(self, stage: Stage) -> RSTDP:
        return RSTDP(stage.layer, self.reward, self.punishment, self.use_stabilizer, *self.bounds)


Lesson = Unsupervised | Reinforced


# What is known of a layer


@dataclass(frozen=True)
class Report:
    """A layer after its lesson.

    Attributes:
        layer: its number, from 1.
        convergence: mean of (w - lower) (upper - w) over (upper - lower)^2; 0.25 where all weights are undecided, 0
            where each is on a bound.
        silent: share of the images for which no neuron of the layer fires.
        spikes: output spikes per image.
        wins: how often each feature learned, ``(features,)``.
    """

    layer: int
    convergence: float
    silent: float
    spikes: float
    wins: Tensor

    @property
    def dead(self) -> int:
        """Features that never learned."""
        return int((self.wins == 0).sum())

    def __str__(self) -> str:
        return (
            f"layer {self.layer}: convergence {self.convergence:.3f}, {self.silent:.1%} of images silent, "
            f"{self.spikes:.0f} spikes per image, {self.dead} of {len(self.wins)} features never learned"
        )


@dataclass(frozen=True)
class Evaluation:
    """Decisions on labelled images; ``confusion`` (classes, classes + 1) counts labels by decisions, silence last."""

    confusion: Tensor

    @property
    def accuracy(self) -> float:
        """Share of right decisions; silence is wrong."""
        return int(self.confusion.diagonal().sum()) / int(self.confusion.sum())

    @property
    def silent(self) -> float:
        return int(self.confusion[:, -1].sum()) / int(self.confusion.sum())


def evaluate(network: Network, images: Tensor, labels: Tensor, *, batch: int = _BATCH) -> Evaluation:
    """Decide all images and count right and wrong, class by class.

    Args:
        network: one with a decision, see :class:`spyketorch.models.Network`.
        images: ``(N, C, H, W)``, as its encoder takes them.
        labels: ``(N,)`` integers.
        batch: images decided at once.

    Example:
        >>> from spyketorch import models
        >>> images, labels = torch.rand(4, 1, 28, 28) * 255, torch.tensor([0, 1, 2, 3])
        >>> 0 <= evaluate(models.mozafari2019(), images, labels).accuracy <= 1
        True
    """
    labels = check.indices(labels, "labels", len(images), torch.device("cpu"))
    decided = torch.cat([network(images[i : i + batch]).cpu() for i in range(0, len(images), batch)])
    classes = int(max(labels.max(), decided.max())) + 1
    index = labels * (classes + 1) + torch.where(decided < 0, classes, decided)
    return Evaluation(torch.bincount(index, minlength=classes * (classes + 1)).view(classes, classes + 1))


# Training


class Trainer:
    """Trains the layers of a network one after the other.

    A layer learns when those below are finished; their answers to all images are computed once and kept, in memory or,
    past ``memory_limit``, in a memory-mapped file in ``directory`` that a later run with the same images, layers and
    weights reuses. With a directory the run can be stopped at any moment, even killed: with ``resume=True`` it goes on
    and ends with the same weights, to the bit.

    Args:
        network: what learns.
        lessons: one per stage of the network, from the first; those left out stay as they are.
        directory: for checkpoints and stored answers; None keeps nothing.
        seed: of the order of the images and of dropout, each epoch anew.
        shuffle: whether the order changes from epoch to epoch, or is that of the images.
        resume: go on from the checkpoint in ``directory``, if there is one. Without, one that is there is an error.
        memory_limit: bytes of answers of one layer that may be kept in memory.
        checkpoint_seconds: time between two checkpoints.
        progress: show a bar; None shows one where tqdm is installed.
        writer: what has ``add_scalar(name, value, step)``, such as TensorBoard's ``SummaryWriter``.

    Attributes:
        history: a dict per period: ``layer``, ``seen`` (images), ``hits``, ``misses``, ``silent`` (shares of the
            period), ``convergence``.

    Example:
        >>> from spyketorch import models
        >>> network = models.kheradpisheh2018()
        >>> lessons = [Unsupervised(kwta=5, inhibition_radius=2), Unsupervised(kwta=8, inhibition_radius=1)]
        >>> reports = Trainer(network, lessons, progress=False).fit(torch.rand(20, 1, 28, 28) * 255)
        >>> [len(report.wins) for report in reports]
        [32, 150]
    """

    def __init__(
        self,
        network: Network,
        lessons: Sequence[Lesson],
        directory: str | Path | None = None,
        *,
        seed: int = 0,
        shuffle: bool = True,
        resume: bool = False,
        memory_limit: float = 2e9,
        checkpoint_seconds: float = 20,
        progress: bool | None = None,
        writer: Any = None,
    ) -> None:
        if not 1 <= len(lessons) <= len(network.stages):
            raise check.fail("lessons", f"1 to {len(network.stages)} lessons, one per stage of the network", lessons)
        self.network, self.lessons = network, list(lessons)
        self.directory = None if directory is None else Path(directory)
        self.seed, self.shuffle, self.resume = check.integer(seed, "seed", 0), shuffle, resume
        self.memory_limit, self.checkpoint_seconds = memory_limit, checkpoint_seconds
        self.progress, self.writer = progress, writer
        self.history: list[dict[str, float]] = []
        self._stage = self._seen = 0
        self._shares = (0.0, 1.0, 0.0)
        self._wins = [torch.zeros(stage.layer.out_channels, dtype=torch.int64) for stage in network.stages]
        self._identity: dict[str, str] = {}
        self._saved = 0.0

    @property
    def checkpoint(self) -> Path | None:
        """The file of the checkpoint, None without a directory."""
        return None if self.directory is None else self.directory / "checkpoint.pt"

    def fit(self, images: Tensor, labels: Tensor | None = None) -> list[Report]:
        """Train all layers that have a lesson.

        Args:
            images: ``(N, C, H, W)``, as the encoder of the network takes them.
            labels: integers ``(N,)``, for :class:`Reinforced`.

        Returns:
            A report per trained layer.

        Raises:
            FileExistsError: there is a checkpoint and ``resume`` is False.
            ValueError: the checkpoint belongs to another network, recipe or data set.
            KeyboardInterrupt: after Ctrl-C, once the state is saved.
        """
        check.image(images, "images")
        if labels is not None:
            labels = check.indices(labels, "labels", len(images), torch.device("cpu"))
        elif any(isinstance(lesson, Reinforced) for lesson in self.lessons):
            raise check.fail("labels", "the class of each image: R-STDP rewards right answers", labels)
        self._identity = self._identify(images, labels)
        self._load()
        self._saved = time.monotonic()
        reports = []
        with _interrupts(deferred=self.directory is not None) as interrupted:
            for number, lesson in enumerate(self.lessons):
                if number >= self._stage:
                    self._learn(number, lesson, self._answers(images, number), labels, interrupted)
                reports.append(self._report(number, lesson, images))
        return reports

    # one layer

    def _learn(
        self, number: int, lesson: Lesson, times: Tensor, labels: Tensor | None, interrupted: Callable[[], bool]
    ) -> None:
        stage = self.network.stages[number]
        rule, device = lesson.rule(stage), stage.layer.weight.device
        total = lesson.epochs * len(times)
        if self._seen == 0:
            _warn_before(number + 1, stage, lesson, times[:200].to(device))
        with self._bar(f"learning layer {number + 1}", total, self._seen) as bar:
            while self._seen < total:
                epoch, start = divmod(self._seen, len(times))
                order = np.arange(len(times))
                if self.shuffle:
                    order = np.random.default_rng([self.seed, number, epoch]).permutation(len(times))
                part = torch.from_numpy(order[start : start + lesson.period])
                factors = lesson.schedule(Progress(self._seen, total, *self._shares))
                winners = self._period(lesson, rule, factors, times[part].to(device), labels, part, (epoch, start))
                self._count(number, lesson, winners, labels, part)
                self._seen += len(part)
                self._record(number, lesson)
                bar.update(len(part))
                bar.set_postfix_str(self._text(lesson))
                if interrupted():
                    self._save()
                    raise KeyboardInterrupt(f"stopped; {str(self.directory)!r} holds the state, resume=True goes on")
                if time.monotonic() - self._saved > self.checkpoint_seconds:
                    self._save()
        self._warn_after(number)
        self._stage, self._seen, self._shares = number + 1, 0, (0.0, 1.0, 0.0)
        self._save()

    def _period(
        self,
        lesson: Lesson,
        rule: STDP | RSTDP,
        factors: tuple[float, float],
        times: Tensor,
        labels: Tensor | None,
        part: Tensor,
        position: tuple[int, int],
    ) -> Tensor:
        """Learn some images; gives the winners."""
        chosen = (lesson.kwta, lesson.inhibition_radius)
        if isinstance(lesson, Unsupervised):
            assert isinstance(rule, STDP)
            rule.update_all_learning_rate(*(factors[0] * rate for rate in lesson.rates))
            inhibit = lesson.pointwise_inhibition
            winners = rule.learn(times, *chosen, pointwise_inhibition=inhibit, minibatch=lesson.minibatch)
            self._move_thresholds(lesson, rule.conv_layer, winners)
            return winners.cpu()
        assert isinstance(rule, RSTDP) and labels is not None
        rule.reward.update_all_learning_rate(*(factors[0] * rate for rate in lesson.reward))
        rule.punishment.update_all_learning_rate(*(factors[1] * rate for rate in lesson.punishment))
        active = None
        if lesson.dropout:
            random = np.random.default_rng([self.seed, len(self._wins), *position])
            shape = (len(times), rule.reward.conv_layer.out_channels)
            active = torch.from_numpy(random.random(shape) >= lesson.dropout).to(times.device)
        return rule.learn(
            times,
            labels[part].to(times.device),
            self.network.classes,
            *chosen,
            pointwise_inhibition=lesson.pointwise_inhibition,
            correction=lesson.correction,
            active=active,
        ).cpu()

    def _move_thresholds(self, lesson: Unsupervised, layer: Any, winners: Tensor) -> None:
        """Features that win more than their part get higher thresholds, the others lower ones."""
        if not lesson.homeostasis:
            return
        if layer.threshold is None:
            raise ValueError("`homeostasis` needs a layer with a threshold; this one fires at the last time step")
        features = winners[..., 0].flatten()
        wins = torch.bincount(features[features >= 0], minlength=layer.out_channels).to(layer.threshold)
        surplus = wins * layer.out_channels / wins.sum().clamp(min=1) - 1
        layer.threshold = layer.threshold * (1 + lesson.homeostasis * surplus.clamp(max=1))

    def _count(self, number: int, lesson: Lesson, winners: Tensor, labels: Tensor | None, part: Tensor) -> None:
        features = winners[..., 0]
        self._wins[number] += torch.bincount(features[features >= 0], minlength=len(self._wins[number]))
        first = features[:, 0]
        silent = float((first < 0).double().mean())
        hits = 0.0
        if isinstance(lesson, Reinforced) and labels is not None:
            decided = self.network.classes.cpu()[first.clamp(min=0)]
            hits = float(((decided == labels[part]) & (first >= 0)).double().mean())
        self._shares = (hits, 1 - hits - silent, silent)

    def _record(self, number: int, lesson: Lesson) -> None:
        hits, misses, silent = self._shares
        row = {"layer": number + 1, "seen": self._seen, "hits": hits, "misses": misses, "silent": silent}
        row["convergence"] = _convergence(self.network.stages[number].layer.weight, lesson.bounds)
        self.history.append(row)
        if self.writer is not None:
            for name in ("hits", "silent", "convergence"):
                self.writer.add_scalar(f"layer {number + 1}/{name}", row[name], self._seen)

    def _text(self, lesson: Lesson) -> str:
        row = self.history[-1]
        accuracy = f"accuracy {row['hits']:.1%}, " if isinstance(lesson, Reinforced) else ""
        return f"{accuracy}silent {row['silent']:.1%}, convergence {row['convergence']:.3f}"

    def _report(self, number: int, lesson: Lesson, images: Tensor) -> Report:
        stage = self.network.stages[number]
        times = self._answers(images[:_BATCH], number, stored=False)
        fired = stage.layer(times.to(stage.layer.weight.device)) < stage.layer.time_steps
        spikes = fired.flatten(1).sum(1).double()
        return Report(
            layer=number + 1,
            convergence=_convergence(stage.layer.weight, lesson.bounds),
            silent=float((spikes == 0).double().mean()),
            spikes=float(spikes.mean()),
            wins=self._wins[number].clone(),
        )

    def _warn_after(self, number: int) -> None:
        wins = self._wins[number]
        if len(wins) > 3 and wins.max() > 0.9 * wins.sum() > 0:
            warnings.warn(
                f"layer {number + 1}: feature {int(wins.argmax())} won {wins.max() / wins.sum():.0%} of the time, so "
                "the others hardly learn. Give the weights more spread (weight_std), lower the learning rates, choose "
                "more winners with an inhibition radius (kwta), or let thresholds adapt (homeostasis=0.1).",
                TrainingWarning,
                stacklevel=4,
            )

    # answers of finished layers

    def _answers(self, images: Tensor, number: int, *, stored: bool = True) -> Tensor:
        """First-spike times that stage ``number`` gets for all images, (N, C, H, W)."""
        path = None
        if stored and self.directory is not None:
            path = self.directory / f"answers-{number}-{self._key(number)}.npy"
            if path.exists():
                return _open_answers(path, len(images))
        stages = self.network.stages[:number]
        finished = self.network.encoder, *stages
        source, steps = images, list(finished)
        if stored and number:  # the answers of the stage before may be at hand
            source, steps = self._answers(images, number - 1), [stages[-1]]
        device = self.network.stages[0].layer.weight.device

        def answer(part: Tensor) -> Tensor:
            part = part.to(device)
            for step in steps:
                part = step(part)
            return part.cpu()

        first = answer(source[:1])
        text = f"answers of layer {number}" if number else "encoding"
        with self._bar(text, len(images), hidden=not stored) as bar:
            if path is None or first.nbytes * len(images) <= self.memory_limit:
                return _fill(torch.empty((len(images), *first.shape[1:]), dtype=first.dtype), source, answer, bar)
            with atomic(path) as part:
                kind = {torch.uint8: np.uint8, torch.int16: np.int16}[first.dtype]
                shape = (len(images), *first.shape[1:])
                file = np.lib.format.open_memmap(part, mode="w+", dtype=kind, shape=shape)
                _fill(torch.from_numpy(file), source, answer, bar)
                file.flush()
        return _open_answers(path, len(images))

    def _key(self, number: int) -> str:
        """Names all that the answers to stage ``number`` depend on."""
        parts = [self._identity["images"], repr(self.network.encoder), _hash(*self.network.encoder.buffers())]
        for stage in self.network.stages[:number]:
            parts += [repr(stage), _hash(stage.layer.weight), repr(stage.layer.limit())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    # checkpoints

    def _identify(self, images: Tensor, labels: Tensor | None) -> dict[str, str]:
        network = f"{self.network.encoder}{_hash(*self.network.encoder.buffers())}"
        return {
            "network": network + "".join(str(stage) for stage in self.network.stages),
            "lessons": repr(self.lessons),
            "images": f"{tuple(images.shape)} {images.dtype} {_hash(images)}",
            "labels": "none" if labels is None else _hash(labels),
            "seed": f"{self.seed}, shuffle {self.shuffle}",
        }

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.checkpoint is None:
            return
        layers = [stage.layer for stage in self.network.stages]
        content = {
            "identity": self._identity,
            "stage": self._stage,
            "seen": self._seen,
            "shares": list(self._shares),
            "wins": self._wins,
            "weights": [layer.weight.detach().cpu() for layer in layers],
            "thresholds": [layer.threshold for layer in layers],
            "history": json.dumps(self.history),
        }
        with atomic(self.checkpoint) as part:
            torch.save(content, part)

    def _load(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        if not self.resume:
            raise FileExistsError(
                f"{str(self.checkpoint)!r} holds a run: resume=True goes on with it, another directory begins anew"
            )
        try:
            content: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            identity = content["identity"]
        except Exception as error:  # torch raises many types for a damaged file
            raise ValueError(f"{str(self.checkpoint)!r} is not a checkpoint of a Trainer: {error}") from error
        for name, mine in self._identity.items():
            if identity.get(name) != mine:
                raise ValueError(
                    f"the checkpoint {str(self.checkpoint)!r} was made with other {name}: {identity.get(name)!r}, here "
                    f"{mine!r}; another directory begins anew"
                )
        self._stage, self._seen = content["stage"], content["seen"]
        self._shares = tuple(content["shares"])
        self._wins, self.history = content["wins"], json.loads(content["history"])
        for stage, weight, threshold in zip(
            self.network.stages, content["weights"], content["thresholds"], strict=True
        ):
            stage.layer.load_weight(weight)
            stage.layer.threshold = None if threshold is None else threshold.to(stage.layer.weight.device)

    @contextmanager
    def _bar(self, text: str, total: int, initial: int = 0, *, hidden: bool = False) -> Iterator[Any]:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            if self.progress:
                raise ImportError('a progress bar needs tqdm: pip install "spyketorch[examples]"') from None
            yield _NoBar()
            return
        show = self.progress is not False and not hidden
        with tqdm(total=total, initial=initial, desc=text, unit="image", disable=not show, mininterval=1) as bar:
            yield bar


class _NoBar:
    """Takes what a progress bar takes, and shows nothing."""

    def update(self, count: int) -> None: ...

    def set_postfix_str(self, text: str) -> None: ...


def _fill(answers: Tensor, source: Tensor, answer: Callable[[Tensor], Tensor], bar: Any) -> Tensor:
    for start in range(0, len(answers), _BATCH):
        part = answer(source[start : start + _BATCH])
        answers[start : start + len(part)] = part
        bar.update(len(part))
    return answers


def _open_answers(path: Path, images: int) -> Tensor:
    """A stored file, mapped into memory; an error where it is not whole."""
    try:
        file = np.load(path, mmap_mode="c")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); delete it, and it is computed anew") from error
    if file.ndim != 4 or len(file) != images or file.dtype not in (np.uint8, np.int16):
        raise ValueError(f"{str(path)!r} holds {file.shape} {file.dtype}, not {images} maps of times; delete it")
    return torch.from_numpy(file)


def _hash(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()[:16]


def _convergence(weight: Tensor, bounds: tuple[float, float]) -> float:
    lower, upper = bounds
    return float(((weight - lower) * (upper - weight)).mean() / (upper - lower) ** 2)


def _warn_before(number: int, stage: Stage, lesson: Lesson, times: Tensor) -> None:
    """Warn of what keeps a layer from learning, as a sample of its input shows."""

    def warn(text: str) -> None:
        warnings.warn(f"layer {number}: {text}", TrainingWarning, stacklevel=5)

    layer = stage.layer
    fired, _ = layer.respond(times, potentials=layer.threshold is None)
    if bool((fired == layer.time_steps).all()):
        highest = _highest(layer, times)
        limit = "0" if layer.threshold is None else f"{float(layer.threshold.min()):g}"
        warn(
            f"nothing fires: on {len(times)} images the largest potential is {highest:g}, the threshold {limit}. "
            "Lower the threshold, raise weight_mean, or look whether the input is silent (filter thresholds)."
        )
    elif layer.threshold is not None and float((fired == 0).double().mean()) > 0.9:
        warn(
            "nearly every neuron fires at the first time step, so the order of spikes says nothing. Raise the "
            "threshold or lower weight_mean."
        )
    if lesson.use_stabilizer and _convergence(layer.weight, lesson.bounds) < 1e-6:
        warn(
            f"weights start on their bounds {lesson.bounds}, where the stabilizer, (w - lower) * (upper - w), is 0 and "
            "nothing can change. Start between them (weight_mean=0.8), or set use_stabilizer=False."
        )


def _highest(layer: Any, times: Tensor) -> float:
    """The largest potential that a layer reaches at the last step."""
    options = layer.geometry.options()
    _, potentials = latency.convolution_fire(times, layer.weight, None, time_steps=layer.time_steps, **options)
    return float(potentials.max())


@contextmanager
def _interrupts(*, deferred: bool) -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks for a stop, which comes where the state is whole; a second one stops at once."""
    asked = threading.Event()
    if not deferred or threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
