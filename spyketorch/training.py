"""Layer-by-layer training: each layer learns from the stored first spikes of the finished ones below it.

A :class:`Trainer` takes a :class:`spyketorch.models.Network` and one lesson per layer: :class:`Unsupervised` (STDP) or
:class:`Reinforced` (R-STDP), and perhaps a :class:`Readout` after them. Images are learned one after the other, each
with the weights that the one before left; where a run is stopped and resumed does not change a bit of the result.
"""

import itertools
import json
import re
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _diagnosis as diagnosis
from spyketorch._answers import Answers, detail, identity, sampled
from spyketorch._batches import batch_size, probe
from spyketorch._checkpoint import read
from spyketorch._diagnosis import Report as Report
from spyketorch._diagnosis import TrainingWarning as TrainingWarning
from spyketorch._diagnosis import convergence
from spyketorch._files import owned, save, sweep
from spyketorch._identity import digest, rule_lines
from spyketorch._images import looked_at, told_once
from spyketorch._lessons import Adaptive as Adaptive
from spyketorch._lessons import Combined as Combined
from spyketorch._lessons import Constant as Constant
from spyketorch._lessons import Doubling as Doubling
from spyketorch._lessons import Fading as Fading
from spyketorch._lessons import Lesson as Lesson
from spyketorch._lessons import Progress as Progress
from spyketorch._lessons import Readout as Readout
from spyketorch._lessons import Reinforced as Reinforced
from spyketorch._lessons import Schedule as Schedule
from spyketorch._lessons import Unsupervised as Unsupervised
from spyketorch._progress import progress_bar
from spyketorch.learning import RSTDP, STDP
from spyketorch.models import Network
from spyketorch.readout import LinearReadout
from spyketorch.snn import SpikingConvolution

_SAMPLE = 500  # images that a report looks at


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


def evaluate(
    network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, batch: int | None = None
) -> Evaluation:
    """Decide all images and count right and wrong, class by class.

    Args:
        network: a :class:`spyketorch.models.Network` with a decision; or what holds one, such as ``DataParallel``, a
            compiled one or a module of yours (which may change the images: the network inside looks at what reaches
            it); or any function from images to integers ``(N,)``, -1 for no decision.
        images: ``(N, C, H, W)``, as its encoder takes them.
        labels: ``(N,)`` integers.
        batch: images decided at once; None for as many as the ``batch_memory`` of the network allows.

    Raises:
        ValueError: weights, thresholds or numbers of a read-out that are NaN, and what the network itself refuses.

    Example:
        >>> from spyketorch import models
        >>> images, labels = torch.randint(0, 256, (4, 1, 28, 28)), torch.tensor([0, 1, 2, 3])
        >>> 0 <= evaluate(models.mozafari2019(), images, labels).accuracy <= 1
        True
    """
    check.callable_(network, "network")
    labels = check.labels(labels, len(check.images(images)), torch.device("cpu"))
    check.storable((int(labels.max()) + 2,) * 2, "labels", int(labels.max()))
    parts = network.modules() if isinstance(network, nn.Module) else ()
    inner = [part for part in parts if isinstance(part, Network)]
    for held in inner:
        held._ready()
    direct = _unwrapped(network)
    numbers = itertools.chain(network.parameters(), network.buffers()) if isinstance(network, nn.Module) else iter(())
    device = next((number.device for number in numbers), images.device)
    decided = []
    as_they_are = looked_at(direct.images, images, stacklevel=4) if isinstance(direct, Network) else told_once()
    with torch.no_grad(), as_they_are:
        if batch is None and inner and not isinstance(direct, Network):
            network(images[:1].to(device))  # what does a wrapper give to the networks that it holds?
        if batch is None:
            reached = [
                images if held is direct else torch.zeros(1, *(held._shape or images.shape[1:])) for held in inner
            ]
            batch = min(map(batch_size, inner, reached), default=500)
        for part in torch.split(images, min(check.integer(batch, "batch", 1), len(images))):
            answer = network(part.to(device))
            if not isinstance(answer, Tensor) or answer.shape != (len(part),) or answer.is_floating_point():
                raise check.fail("network", f"from images to their classes, integers ({len(part)},)", answer)
            decided.append(answer.cpu())
    return _evaluation(torch.cat(decided), labels)


def _unwrapped(network: Any) -> Any:
    """What torch's own wrappers hold, that pass images on as they are."""
    while isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(network, "_orig_mod"):
        network = getattr(network, "_orig_mod", None) or network.module
    return network


def _evaluation(decided: Tensor, labels: Tensor) -> Evaluation:
    classes = int(max(labels.max(), decided.max())) + 1
    index = labels * (classes + 1) + torch.where(decided < 0, classes, decided)
    return Evaluation(torch.bincount(index, minlength=classes * (classes + 1)).view(classes, classes + 1))


class _Place(NamedTuple):
    """Where a run stands: layers that are finished, images that the next one has seen, how its last period went."""

    stage: int = 0
    seen: int = 0
    shares: tuple[float, ...] = (0.0, 1.0, 0.0)


class Trainer:
    """Trains the layers of a network one after the other.

    A layer learns when those below are finished; their answers to all images are computed once and kept, in memory or,
    past ``memory_limit``, in a memory-mapped file in ``directory`` that a later run with the same images, layers and
    weights reuses. With a directory the run can be stopped at any moment, even killed: with ``resume=True`` it goes on
    and ends with the same weights, to the bit.

    Args:
        network: what learns.
        lessons: one per stage of the network, from the first, then a :class:`Readout` if there is one; stages left out
            stay as they are.
        directory: for checkpoints and stored answers; None keeps nothing.
        seed: of the order of the images and of dropout, each epoch anew.
        shuffle: whether the order changes from epoch to epoch, or is that of the images.
        resume: go on from the checkpoint in ``directory``; begin anew where there is none. Without it, one that is
            there is an error.
        memory_limit: bytes of answers of one layer that may be kept in memory.
        checkpoint_seconds: time between two checkpoints.
        progress: show a bar; None shows one where tqdm is installed.
        on_silence: "stop" raises where a layer's input, or the layer itself, is silent, as nothing can be learned from
            it; "warn" goes on.
        writer: what has ``add_scalar(name, value, step)``, such as TensorBoard's ``SummaryWriter``.

    Attributes:
        history: a dict per period: ``layer``, ``seen`` (images), ``hits``, ``misses``, ``silent`` (shares of the
            period), and ``convergence`` where the rule has a stabilizer.

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
        lessons: Sequence[Lesson | Readout],
        directory: str | Path | None = None,
        *,
        seed: int = 0,
        shuffle: bool = True,
        resume: bool = False,
        memory_limit: float = 2e9,
        checkpoint_seconds: float = 20,
        progress: bool | None = None,
        on_silence: str = "stop",
        writer: Any = None,
    ) -> None:
        if not isinstance(network, Network):
            raise check.fail_type("network", "a models.Network", network)
        given = list(lessons) if isinstance(lessons, Sequence) else []
        last = given[-1] if given and isinstance(given[-1], Readout) else None
        layers, stages = [lesson for lesson in given if isinstance(lesson, Lesson)], len(network.stages)
        if not given or len(layers) > stages or len(layers) != len(given) - (last is not None):
            raise check.fail("lessons", f"1 to {stages} lessons, one per stage of the network, then a Readout", lessons)
        network._ready()
        for lesson, stage in zip(layers, network.stages, strict=False):
            _fits(lesson, stage.layer, network.classes)
        if layers and isinstance(layers[-1], Reinforced) and network.readout is None:
            network._deciding()
        if last is not None and not isinstance(network.readout, LinearReadout):
            raise check.fail("lessons", "without Readout where the network's `readout` is no LinearReadout", lessons)
        self.network, self.lessons, self.last = network, layers, last
        self.directory = None if directory is None else check.folder(directory, "directory")
        self.seed, self.shuffle = check.integer(seed, "seed", 0), check.flag(shuffle, "shuffle")
        self.resume = check.flag(resume, "resume")
        self.memory_limit = check.limit(memory_limit, "memory_limit")
        self.checkpoint_seconds = check.limit(checkpoint_seconds, "checkpoint_seconds")
        self.progress = None if progress is None else check.flag(progress, "progress")
        if writer is not None and not callable(getattr(writer, "add_scalar", None)):
            raise check.fail_type("writer", "None, or an object with add_scalar(name, value, step)", writer)
        self.writer = writer
        if on_silence not in ("stop", "warn"):
            raise check.fail("on_silence", '"stop" or "warn"', on_silence)
        self.on_silence = on_silence
        self._warnings: list[list[str]] = [[] for _ in network.stages]  # of each layer
        self.history: list[dict[str, float]] = []
        self._place = _Place()
        self._reports: list[Report] = []  # of a finished run
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
            labels: integers ``(N,)``, for :class:`Reinforced` and :class:`Readout`.

        Returns:
            A report per trained layer, with all that was warned of.

        Raises:
            FileExistsError: there is a checkpoint and ``resume`` is False.
            BlockingIOError: another run that is still going owns the directory; nothing of it is touched.
            ValueError: the checkpoint is damaged, or belongs to another network, recipe or data set, or an earlier call
                had others; or a layer is silent.
            KeyboardInterrupt: after Ctrl-C, once the state is saved.

        However it ends, the network is as after a whole number of periods, and a further call goes on from there. When
        all lessons are learned a further call learns nothing, warns and gives the same reports.
        """
        if check.images(images).is_meta:
            raise check.fail_type("images", "a tensor with values", images)
        self.network._ready()
        if self.network.images is not None:
            self.network.images.fit(images)
        if labels is not None:
            labels = check.labels(labels, len(images), torch.device("cpu"))
        elif self.last is not None or any(isinstance(lesson, Reinforced) for lesson in self.lessons):
            raise check.fail("labels", "the class of each image, for R-STDP and for a read-out", labels)
        if self.last is not None:
            device = self.network.stages[0].layer.weight.device
            self._readout().read(self.network._features(images[:1].to(device), None))
        for lesson in self.lessons:  # what would fail hours later
            _factors(lesson, Progress(0, lesson.epochs * len(images)))
        identity = self._identify(images, labels)
        with nullcontext() if self.directory is None else self._own(self.directory):
            self._begin(identity, len(images))
            if not self._reports:
                self._reports = self._run(images, labels)
                return self._reports
        warnings.warn(
            "this Trainer has finished, so this call learned nothing and gives the reports of its run; to teach the "
            "network more make another Trainer, in another directory",
            stacklevel=2,
        )
        return self._reports

    def _run(self, images: Tensor, labels: Tensor | None) -> list[Report]:
        reports = []
        name = self._identity["images"]
        answers = Answers(self.network, images, name, self.directory, self.memory_limit, self.progress)
        with (
            looked_at(self.network.images, images, stacklevel=4) as told,
            _interrupts(deferred=self.directory is not None) as interrupted,
        ):
            if told is not None and self._place == _Place():
                self._warnings[0].append(told)
            for number, lesson in enumerate(self.lessons):
                if number >= self._place.stage:
                    self._learn(number, lesson, answers(number), labels, interrupted)
                reports.append(self._report(number, lesson, images))
                if interrupted():  # while the layers below answered, or in the report
                    raise self._stopped()
            if labels is not None and self.last is not None and self._place.stage == len(self.lessons):
                self._read(self.last, answers(len(self.network.stages)), labels, interrupted)
        return reports

    def _read(self, lesson: Readout, times: Tensor, labels: Tensor, interrupted: Callable[[], bool]) -> None:
        """Fit the read-out; stopped half-way, it begins anew."""
        readout = self._readout()
        with progress_bar("fitting the read-out", len(times) * lesson.iterations, self.progress) as bar:

            def tell(objective: float) -> None:
                bar.update(len(times))
                bar.set_postfix_str(f"objective {objective:.4f}")
                if interrupted():
                    raise self._stopped()

            with self._whole(readout):
                readout.fit(times, labels, penalty=lesson.penalty, iterations=lesson.iterations, tell=tell)
                self._place = _Place(self._place.stage + 1)
        self._save()

    def _readout(self) -> LinearReadout:
        assert isinstance(self.network.readout, LinearReadout)
        return self.network.readout

    # one layer

    def _learn(
        self, number: int, lesson: Lesson, times: Tensor, labels: Tensor | None, interrupted: Callable[[], bool]
    ) -> None:
        stage = self.network.stages[number]
        rules, device = _rules(lesson, lesson.rule(stage)), stage.layer.weight.device
        total = lesson.epochs * len(times)
        if self._place.seen == 0:
            self._diagnose(number, lesson, probe(self.network, number, times).to(device), labels)
        with progress_bar(f"learning layer {number + 1}", total, self.progress, initial=self._place.seen) as bar:
            while self._place.seen < total:
                epoch, start = divmod(self._place.seen, len(times))
                order = np.arange(len(times))
                if self.shuffle:
                    order = np.random.default_rng([self.seed, number, epoch]).permutation(len(times))
                part = torch.from_numpy(order[start : start + lesson.period])
                with self._whole(stage.layer):
                    factors = _factors(lesson, Progress(self._place.seen, total, *self._place.shares))
                    self._set_rates(number, lesson, rules, factors)
                    winners = self._period(lesson, rules.whole, times[part].to(device), labels, part, (epoch, start))
                    self._count(number, lesson, winners, labels, part)
                    self._record(number, lesson)
                bar.update(len(part))
                bar.set_postfix_str(self._text(lesson))
                if interrupted():
                    self._save()
                    raise self._stopped()
                if time.monotonic() - self._saved > self.checkpoint_seconds:
                    self._save()
        rows = [row for row in self.history if row["layer"] == number + 1]
        for text in diagnosis.after(lesson, rows, self._wins[number], stage.layer.weight.detach().cpu(), labels):
            self._warn(number, text, stacklevel=4)
        self._place = _Place(number + 1)
        self._save()

    @contextmanager
    def _whole(self, layer: nn.Module) -> Iterator[None]:
        """All that is learned within the block, or, when it is left by Ctrl-C or an error, nothing of it."""
        tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        values, threshold = [tensor.detach().clone() for tensor in tensors], getattr(layer, "threshold", None)
        place, wins, rows = self._place, [count.clone() for count in self._wins], len(self.history)
        try:
            yield
        except BaseException:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
            if threshold is not None:  # perhaps another tensor, as homeostasis makes
                layer.threshold = threshold
            self._place, self._wins = place, wins
            del self.history[rows:]
            raise

    # warnings

    def _warn(self, number: int, text: str, stacklevel: int) -> None:
        self._warnings[number].append(text)
        warnings.warn(f"layer {number + 1}: {text}", TrainingWarning, stacklevel=stacklevel + 1)

    def _diagnose(self, number: int, lesson: Lesson, times: Tensor, labels: Tensor | None) -> None:
        """Say what will keep a layer from learning; stop where nothing can."""
        layer = self.network.stages[number].layer
        with torch.no_grad(), _learning_threshold(layer, lesson):
            silence = diagnosis.silence(layer, times)
            found = [silence] if silence else list(diagnosis.before(layer, lesson, times))
        found += diagnosis.signs(lesson)
        if silence and self.on_silence == "stop":
            raise ValueError(f'layer {number + 1}: {silence} on_silence="warn" goes on all the same.')
        if labels is not None and isinstance(lesson, Reinforced):
            found += filter(None, [diagnosis.labels(labels, self.network.classes)])
        for text in found:
            self._warn(number, text, stacklevel=5)

    def _set_rates(self, number: int, lesson: Lesson, rules: "_Rules", factors: tuple[float, float]) -> None:
        """The rates that a rule was made with, times the factors of the schedule; say once that one is too high."""
        rate = 0.0
        for rule, made, factor in zip(rules.parts, rules.rates, factors, strict=False):
            pairs = (factor * made).tolist()
            if all(pair == pairs[0] for pair in pairs):
                rule.update_all_learning_rate(*pairs[0])
            else:
                for feature, pair in enumerate(pairs):
                    rule.update_learning_rate(feature, *pair)
            rate = max(rate, *(abs(value) for pair in pairs for value in pair))
        text = diagnosis.too_fast(lesson, rate, self.network.stages[number].layer.weight)
        if text and not any("with a rate of" in told for told in self._warnings[number]):
            self._warn(number, text, stacklevel=5)

    def _period(
        self,
        lesson: Lesson,
        rule: STDP | RSTDP,
        times: Tensor,
        labels: Tensor | None,
        part: Tensor,
        position: tuple[int, int],
    ) -> Tensor:
        """Learn some images; gives the winners."""
        chosen = (lesson.kwta, lesson.inhibition_radius)
        if isinstance(lesson, Unsupervised):
            assert isinstance(rule, STDP)
            inhibit = lesson.pointwise_inhibition
            with _learning_threshold(rule.conv_layer, lesson):
                winners = rule.learn(times, *chosen, pointwise_inhibition=inhibit, minibatch=lesson.minibatch)
            self._move_thresholds(lesson, rule.conv_layer, winners)
            return winners.cpu()
        assert isinstance(rule, RSTDP) and labels is not None
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
        wins = _wins(winners, layer.out_channels).to(layer.threshold)
        surplus = wins * layer.out_channels / wins.sum().clamp(min=1) - 1
        layer.threshold = layer.threshold * (1 + lesson.homeostasis * surplus.clamp(max=1))

    def _count(self, number: int, lesson: Lesson, winners: Tensor, labels: Tensor | None, part: Tensor) -> None:
        self._wins[number] += _wins(winners, len(self._wins[number]))
        first = winners[:, 0, 0]
        silent = float((first < 0).double().mean())
        hits = 0.0
        if isinstance(lesson, Reinforced) and labels is not None:
            decided = self.network.classes.cpu()[first.clamp(min=0)]
            hits = float(((decided == labels[part]) & (first >= 0)).double().mean())
        shares = (hits, max(0.0, 1 - hits - silent), silent)
        self._place = _Place(self._place.stage, self._place.seen + len(part), shares)

    def _record(self, number: int, lesson: Lesson) -> None:
        hits, misses, silent = self._place.shares
        row = {"layer": number + 1, "seen": self._place.seen, "hits": hits, "misses": misses, "silent": silent}
        if lesson.use_stabilizer:
            row["convergence"] = convergence(self.network.stages[number].layer.weight, lesson.bounds)
        self.history.append(row)
        if self.writer is not None:
            for name in ("hits", "silent", "convergence"):
                if name in row:
                    self.writer.add_scalar(f"layer {number + 1}/{name}", row[name], self._place.seen)

    def _text(self, lesson: Lesson) -> str:
        row = self.history[-1]
        accuracy = f"accuracy {row['hits']:.1%}, " if isinstance(lesson, Reinforced) else ""
        decided = f", convergence {row['convergence']:.3f}" if "convergence" in row else ""
        return f"{accuracy}silent {row['silent']:.1%}{decided}"

    @torch.no_grad()
    def _report(self, number: int, lesson: Lesson, images: Tensor) -> Report:
        stage, counts = self.network.stages[number], []
        for part in self.network.batches(images[:_SAMPLE]):
            times = self.network.features(part, number)
            passed = next(stage.parts(times)).times
            counts.append((passed < stage.layer.time_steps).flatten(1).sum(1).cpu())
        spikes = torch.cat(counts).double()
        return Report(
            layer=number + 1,
            convergence=convergence(stage.layer.weight, lesson.bounds) if lesson.use_stabilizer else None,
            silent=float((spikes == 0).double().mean()),
            spikes=float(spikes.mean()),
            wins=self._wins[number].clone(),
            warnings=tuple(self._warnings[number]),
            hints=tuple(diagnosis.hints(stage.layer, lesson, times.shape[-2:], lesson.epochs * len(images))),
        )

    # checkpoints

    @contextmanager
    def _own(self, directory: Path) -> Iterator[None]:
        """The directory, made where it is missing, for this run alone."""
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass  # a folder that cannot be written to is better found now than hours later
        with owned(directory):
            yield

    def _begin(self, identity: dict[str, str], images: int) -> None:
        """Go on from the checkpoint, if there is one, or from an earlier call."""
        for name in ("images", "labels"):
            if self._identity.get(name, identity[name]) != identity[name]:
                raise ValueError(f"this Trainer has begun with other {name}; make a new one to learn these")
        self._load(identity, images)
        if self.directory is not None:  # a run that was killed could not
            sweep([*self.directory.glob(".checkpoint.pt.*.part"), *self.directory.glob(".answers-*.part")])
        self._identity, self._saved = identity, time.monotonic()

    def _stopped(self) -> KeyboardInterrupt:
        return KeyboardInterrupt(f"stopped; {str(self.directory)!r} holds the state, resume=True goes on")

    def _identify(self, images: Tensor, labels: Tensor | None) -> dict[str, str]:
        with ExitStack() as stack:
            for lesson, stage in zip(self.lessons, self.network.stages, strict=False):
                if isinstance(lesson, Unsupervised) and lesson.homeostasis:  # thresholds are learned, as weights are
                    stack.enter_context(_threshold(stage.layer, None))
            network = identity(self.network, len(self.network.stages))
            parts = detail(self.network, len(self.network.stages)) + sampled(self.network, images)
        network += [f"classes {None if self.network.classes is None else self.network.classes.tolist()}"]
        if self.last is not None:  # it depends on layers that have no lesson
            untaught = self.network.stages[len(self.lessons) :]
            network += [f"weights of layers without a lesson: {digest(*(stage.layer.weight for stage in untaught))}"]
        return {
            "lessons": re.sub(r" at 0x[0-9a-fA-F]+", "", "\n".join(map(repr, [*self.lessons, self.last]))),
            "network": "\n".join([*network, str(self.network.readout)]),
            "network in detail": "\n".join(parts),
            "images": f"{tuple(images.shape)} {images.dtype} {digest(images)}",
            "labels": "none" if labels is None else digest(labels),
            "seed": f"{self.seed}, shuffle {self.shuffle}",
            "lessons in detail": "\n".join(map(_said, self.lessons)),
            "rules": self._identity.get("rules") or "\n".join(self._rules_of_ones_own()),
        }

    def _rules_of_ones_own(self) -> Iterator[str]:
        """What rules are made of that a lesson does not tell."""
        for number, (lesson, stage) in enumerate(zip(self.lessons, self.network.stages, strict=False), 1):
            standard = Unsupervised.rule if isinstance(lesson, Unsupervised) else Reinforced.rule
            if type(lesson).rule is not standard:
                yield from rule_lines(lesson.rule(stage), stage.layer, number)

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.checkpoint is None:
            return
        layers = [stage.layer for stage in self.network.stages]
        content = {
            "identity": self._identity,
            "stage": self._place.stage,
            "seen": self._place.seen,
            "shares": list(self._place.shares),
            "wins": self._wins,
            "weights": [layer.weight.detach().cpu() for layer in layers],
            "thresholds": [layer.threshold for layer in layers],
            "readout": None if self.last is None else self._readout().state_dict(),
            "history": json.dumps(self.history),
            "warnings": json.dumps(self._warnings),
        }
        save(content, self.checkpoint)

    def _load(self, identity: dict[str, str], images: int) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        if not self.resume and not self._identity:
            raise FileExistsError(
                f"{str(self.checkpoint)!r} holds a run: resume=True goes on with it, another directory begins anew"
            )
        content = read(self.checkpoint, identity, self.network, self.lessons, images)
        for stage, weight, threshold in zip(
            self.network.stages, content["weights"], content["thresholds"], strict=True
        ):
            stage.layer.load_weight(weight)
            stage.layer.threshold = threshold
        if self.last is not None:
            self._readout().load_state_dict(content["readout"])
        self._place = _Place(content["stage"], content["seen"], tuple(content["shares"]))
        self._wins, self.history = content["wins"], json.loads(content["history"])
        self._warnings = json.loads(content.get("warnings", "[]")) or [[] for _ in self.network.stages]


class _Rules(NamedTuple):
    """A rule, the one or two STDP rules that it holds, and their rates ``(features, 2)`` when they were made."""

    whole: STDP | RSTDP
    parts: list[STDP]
    rates: list[Tensor]


def _rules(lesson: Lesson, rule: STDP | RSTDP) -> _Rules:
    """Where the rates are those that the lesson names, in all their digits."""
    parts = [rule] if isinstance(rule, STDP) else [rule.reward, rule.punishment]
    named = [lesson.rates] if isinstance(lesson, Unsupervised) else [lesson.reward, lesson.punishment]
    rates = []
    for part, pair in zip(parts, named, strict=True):
        made, exact = part._rates.cpu(), torch.tensor(pair, dtype=torch.float64, device="cpu")
        rates.append(torch.where(exact.to(made.dtype) == made, exact, made.double()))
    return _Rules(rule, parts, rates)


def _wins(winners: Tensor, features: int) -> Tensor:
    """How often each feature won."""
    won = winners[..., 0].flatten()
    return torch.zeros(features, dtype=torch.int64, device=won.device).index_add_(
        0, won.clamp(min=0), (won >= 0).long()
    )


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


def _factors(lesson: Lesson, progress: Progress) -> tuple[float, float]:
    """What the schedule of a lesson says."""
    factors: Any = lesson.schedule(progress)
    if not isinstance(factors, Sequence) or len(factors) != 2:
        raise check.fail(
            "schedule", "a function that gives two factors, of the rates of reward and punishment", factors
        )
    return check.number(factors[0], "schedule"), check.number(factors[1], "schedule")


def _said(lesson: Lesson) -> str:
    """What a schedule says on the way, which its ``repr`` may not tell."""
    shares = [(0.0, 1.0, 0.0), (0.6, 0.3, 0.1)]
    on_the_way = [Progress(seen, 10_000, *share) for seen in (0, 499, 500, 5000, 9999) for share in shares]
    return f"factors of {type(lesson.schedule).__qualname__}: {[_factors(lesson, progress) for progress in on_the_way]}"


def _fits(lesson: Lesson, layer: SpikingConvolution, classes: Tensor | None) -> None:
    """Whether a layer can have a lesson."""
    if isinstance(lesson, Unsupervised):
        if lesson.homeostasis and layer.threshold is None:
            raise ValueError("`homeostasis` needs a layer with a threshold; this one fires at the last time step")
    elif classes is None or len(classes) != layer.out_channels:
        way = "" if classes is not None else "give `Network(..., classes=...)`, the class of each of its features"
        raise check.fail("lessons", "Reinforced for the layer alone whose features have `classes`", lesson, way)


def _learning_threshold(layer: Any, lesson: Lesson) -> AbstractContextManager[None]:
    """The layer with the threshold that it learns with."""
    if isinstance(lesson, Reinforced) or lesson.threshold is None:
        return nullcontext()
    return _threshold(layer, lesson.threshold)


@contextmanager
def _threshold(layer: Any, threshold: float | None) -> Iterator[None]:
    """The layer with another threshold than its own."""
    own, layer.threshold = layer.threshold, threshold
    try:
        yield
    finally:
        layer.threshold = own
