"""The trainer: the order of images, layers one after the other, periods that are whole, stopping and going on."""

import json
import re
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _processes
from spyketorch._files import owned, save, sweep
from spyketorch._identity import digest
from spyketorch._processes import Processes
from spyketorch._progress import progress_bar
from spyketorch.data._source import Images, Source, sourced
from spyketorch.encoding._fitted import fit
from spyketorch.models._batches import probe
from spyketorch.models._images import InputWarning, looked_at
from spyketorch.models._network import Network
from spyketorch.training import _checkpoint as checkpoint
from spyketorch.training import _diagnosis as diagnosis
from spyketorch.training._answers import Answers, Heed
from spyketorch.training._diagnosis import Course, Report, TrainingWarning
from spyketorch.training._lesson import FinalLesson, Learned, Lesson, Period, wins
from spyketorch.training._moment import Moment
from spyketorch.training._schedules import Progress

_AT_ONCE = 500  # images that an encoder is fitted to at once


class _Batches:
    """Images in batches beside a network, to which parts of its encoder are fitted."""

    def __init__(self, source: Source, device: torch.device, heed: Heed) -> None:
        self.source, self.device, self.heed = source, device, heed

    def __iter__(self) -> Iterator[Tensor]:
        for images in self.heed(self.source.chunks(_AT_ONCE)):
            yield images.to(self.device)


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
        watch: called with a :class:`Moment` after each period, such as :class:`spyketorch.visualization.Watch`, which
            draws the features as they change; An error that it raises stops the run, after the
            period.
        processes: share out the work among those, as ``docs/processes.md`` says: the answers of finished layers, those
            of mini-batches, and the passes of a linear read-out. All get the same bits as one process gets alone, so
            a run may be resumed with another number of them. The first one alone writes to ``directory``, which all
            can read, warns, and calls ``writer`` and ``watch``. None does all of it here.

    Attributes:
        history: a dict per period: ``layer``, ``seen`` (images), ``hits``, ``misses``, ``silent`` (shares of the
            period), and ``convergence`` where the rule has a stabilizer. Of a read-out, which counts as one layer more,
            a dict per ``pass`` over the images, where its lesson tells of them.

    Example:
        >>> from spyketorch import models
        >>> from spyketorch.training import Unsupervised
        >>> network = models.kheradpisheh2018()
        >>> lessons = [Unsupervised(kwta=5, inhibition_radius=2), Unsupervised(kwta=8, inhibition_radius=1)]
        >>> reports = Trainer(network, lessons, progress=False).fit(torch.rand(20, 1, 28, 28) * 255)
        >>> [len(report.wins) for report in reports]
        [32, 150]
    """

    def __init__(
        self,
        network: Network,
        lessons: Sequence[Lesson | FinalLesson],
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
        watch: Callable[[Moment], object] | None = None,
        processes: Processes | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise check.fail_type("network", "a models.Network", network)
        given = list(lessons) if isinstance(lessons, Sequence) else []
        last = given[-1] if given and isinstance(given[-1], FinalLesson) else None
        layers, stages = [lesson for lesson in given if isinstance(lesson, Lesson)], len(network.stages)
        if not given or len(layers) > stages or len(layers) != len(given) - (last is not None):
            raise check.fail("lessons", f"1 to {stages} lessons, one per stage of the network, then a Readout", lessons)
        network._ready()
        for number, lesson in enumerate(layers):
            for name in ("epochs", "period"):
                check.integer(getattr(lesson, name), name, 1)
            lesson.fits(network, number)
        if last is not None:
            last.module(network)
        self.network, self.lessons, self.last = network, layers, last
        self.directory = None if directory is None else check.folder(directory, "directory")
        self.seed, self.shuffle = check.integer(seed, "seed", 0), check.flag(shuffle, "shuffle")
        self.resume = check.flag(resume, "resume")
        self.memory_limit = check.limit(memory_limit, "memory_limit")
        self.checkpoint_seconds = check.limit(checkpoint_seconds, "checkpoint_seconds")
        self.processes = _processes.known(processes)
        self.progress = None if progress is None else check.flag(progress, "progress")
        if writer is not None and not callable(getattr(writer, "add_scalar", None)):
            raise check.fail_type("writer", "None, or an object with add_scalar(name, value, step)", writer)
        self.writer = writer
        if watch is not None:
            check.callable_(watch, "watch")
        self.watch = watch
        if not self.processes.first:
            self.progress, self.writer, self.watch = False, None, None
        if on_silence not in ("stop", "warn"):
            raise check.fail("on_silence", '"stop" or "warn"', on_silence)
        self.on_silence = on_silence
        self._warnings: list[list[str]] = [[] for _ in network.stages]  # of each layer
        self._rules: list[nn.Module | None] = [None] * len(network.stages)  # of layers that have begun
        self._last_rule: nn.Module | None = None  # of a final lesson that has begun
        self.history: list[dict[str, float]] = []
        self._place = _Place()
        self._reports: list[Report] = []  # of a finished run
        self._wins = [torch.zeros(stage.layer.out_channels, dtype=torch.int64) for stage in network.stages]
        self._identity: dict[str, str] = {}
        self._code: dict[str, str] = {}  # of the user's own
        self._saved = 0.0

    @property
    def checkpoint(self) -> Path | None:
        """The file of the checkpoint, None without a directory."""
        return None if self.directory is None else self.directory / "checkpoint.pt"

    def fit(self, images: Images, labels: Any = None) -> list[Report]:
        """Train all layers that have a lesson.

        Args:
            images: as the encoder of the network takes them: a tensor or an array ``(N, C, H, W)``, also one that is
                mapped from a file; a ``Dataset`` or a list of images or of pairs (image, label); a DataLoader or a list
                of batches. They are read once, in order, whatever their size; the trainer shuffles by itself. To parts
                of the encoder that are not fitted yet they are shown before: see :func:`spyketorch.encoding.fit`.
            labels: of the images, for :class:`Reinforced` and :class:`Readout`, where they do not come with them:
                ``(N,)``, integers or names of classes. Names, and the ``classes`` of a data set, become the
                network's ``names`` where it has none.

        Returns:
            A report per trained layer, with all that was warned of.

        Raises:
            FileExistsError: there is a checkpoint and ``resume`` is False.
            BlockingIOError: another run that is still going owns the directory; nothing of it is touched.
            ConnectionError: another process of the run has ended before its end.
            TypeError, ValueError: images or labels in none of these forms; the sentence says the way on.
            ValueError: the checkpoint is damaged, or belongs to another network, recipe or data set, or an earlier call
                had others; or a layer is silent.
            KeyboardInterrupt: after Ctrl-C, once the state is saved; while images are read nothing has to be.

        However it ends, the network is as after a whole number of periods, and a further call goes on from there. When
        all lessons are learned a further call learns nothing, warns and gives the same reports.
        """
        source = sourced(images, labels)
        self.network._ready()
        if self.network.images is not None:
            self.network.images.fit(source.head)
        ask = [type(lesson).__name__ for lesson in [*self.lessons, self.last] if lesson and lesson.needs_labels]
        if ask and not source.labelled:
            raise check.fail("labels", f"the class of each image, from which {ask[0]} learns", labels)
        self.processes.check_alike("images", source.count, source.head)
        if source.random:
            warnings.warn(
                "`images` are random, by a transform that draws or by shuffle=True of a DataLoader: each is read once, "
                "and its first draw is learned in all epochs; a run that is stopped goes on with the same draws alone. "
                "Leave out what draws (the trainer shuffles by itself), or give a list of several draws of each image",
                InputWarning,
                stacklevel=2,
            )
        with (
            nullcontext() if self.directory is None else self._own(self.directory),
            nullcontext() if self.processes.first else _unwarned(),
            looked_at(self.network.images, source.at_hand, stacklevel=3) as told,
            _interrupts(deferred=self.directory is not None) as asked,
            self.processes.at_work(),
        ):

            def interrupted() -> bool:
                return self.processes.any(asked())

            self.processes.told(self._may_begin)
            heed = partial(self._heeding, asked=asked, interrupted=interrupted)
            identity = self._identify(source, heed)
            self.processes.check_alike("network, lessons and seed", identity)
            content = self._found(identity, len(source))
            where = self.directory, self.memory_limit
            answers = Answers(self.network, source, *where, self.progress, heed, self.processes)
            labels = self._begin(content, identity, source, answers)
            if not self._reports:
                if told is not None and self._place == _Place():
                    self._warnings[0].append(told)
                self._reports = self._run(source, answers, labels, interrupted)
                return self._reports
        if self.processes.first:
            warnings.warn(
                "this Trainer has finished, so this call learned nothing and gives the reports of its run; to teach "
                "the network more make another Trainer, in another directory",
                stacklevel=2,
            )
        return self._reports

    def _run(
        self, source: Source, answers: Answers, labels: Tensor | None, interrupted: Callable[[], bool]
    ) -> list[Report]:
        reports = []
        for number, lesson in enumerate(self.lessons):
            if number >= self._place.stage:
                self._learn(number, lesson, answers(number), labels, interrupted)
            reports.append(self._report(number, lesson, source))
            if interrupted():  # in the report
                raise self._stopped()
        if self.last is not None and self._place.stage == len(self.lessons):
            self._read(self.last, answers(len(self.network.stages)), labels, interrupted)
        return reports

    def _read(self, lesson: FinalLesson, times: Tensor, labels: Tensor | None, interrupted: Callable[[], bool]) -> None:
        """Fit the read-out, or go on with it after its last whole pass."""
        module, rule = lesson.module(self.network), self._final(lesson)
        with (
            progress_bar("fitting the read-out", len(times) * lesson.passes, self.progress) as bar,
            self._whole(module, rule) as settled,
        ):
            lesson.fit(rule, times, labels, _Follower(self, len(times), bar, settled, interrupted))
            self._place = _Place(self._place.stage + 1)
        self._save()

    def _final(self, lesson: FinalLesson) -> nn.Module:
        """What learns by the final lesson, made when its turn comes."""
        if self._last_rule is None:
            self._last_rule = check.module(lesson.rule(lesson.module(self.network)), "rule")
        return self._last_rule

    # one layer

    def _learn(
        self, number: int, lesson: Lesson, times: Tensor, labels: Tensor | None, interrupted: Callable[[], bool]
    ) -> None:
        layer, rule, total = self.network.stages[number].layer, self._rule(number), lesson.epochs * len(times)
        if self._place.seen == 0:
            self._diagnose(number, lesson, probe(self.network, number, times).to(layer.weight.device), labels)
        with progress_bar(f"learning layer {number + 1}", total, self.progress, initial=self._place.seen) as bar:
            while self._place.seen < total:
                period = self._period(number, lesson, times, labels)
                with self._whole(layer, rule), self._seeded(number, len(times)):
                    learned = _checked(lesson.learn(rule, period), len(period.times))
                    for text in learned.warnings:
                        self._warn(number, text, stacklevel=4, once=True)
                    self.processes.check_alike(f"weights of layer {number + 1}", layer.weight)
                    self._count(number, learned)
                    self._record(number, learned)
                bar.update(len(period.times))
                bar.set_postfix_str(self._text(learned))
                if self.watch is not None:
                    self.watch(Moment(self.network, number, total, self.history))
                if interrupted():
                    self._save()
                    raise self._stopped()
                if time.monotonic() - self._saved > self.checkpoint_seconds:
                    self._save()
        course = Course(self._rows(number), self._wins[number], labels)
        for text in [*lesson.after(layer, course), *diagnosis.silent_in_the_end(course)]:
            self._warn(number, text, stacklevel=4)
        self._place = _Place(number + 1)
        self._save()

    def _rule(self, number: int) -> nn.Module:
        """What learns by the lesson of a layer, made when its turn comes."""
        rule = self._rules[number]
        if rule is None:
            rule = self._rules[number] = check.module(self.lessons[number].rule(self.network.stages[number]), "rule")
        return rule

    def _period(self, number: int, lesson: Lesson, times: Tensor, labels: Tensor | None) -> Period:
        """The images that come next."""
        seen, device = self._place.seen, self.network.stages[number].layer.weight.device
        epoch, start = divmod(seen, len(times))
        order = _shuffled((self.seed, number, epoch), len(times)) if self.shuffle else np.arange(len(times))
        part = torch.from_numpy(order[start : start + lesson.period])
        return Period(
            times=times[part].to(device),
            labels=None if labels is None else labels[part].to(device),
            classes=self.network.classes,
            progress=Progress(seen, lesson.epochs * len(times), *self._place.shares),
            random=np.random.default_rng([self.seed, len(self._wins), epoch, start]),
        )

    @contextmanager
    def _seeded(self, number: int, images: int) -> Iterator[None]:
        """What is drawn from torch's generator within the block depends on the seed and the place of the period."""
        place = [self.seed, number, *divmod(self._place.seen, images)]
        device = self.network.stages[number].layer.weight.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
            yield

    @contextmanager
    def _whole(self, *modules: nn.Module) -> Iterator[Callable[[], None]]:
        """All that is learned within the block, or, when it is left by Ctrl-C or an error, nothing of it.

        Gives what is to be called where the state is whole within the block: then nothing before is undone.
        """
        kept = self._kept(modules)

        def settled() -> None:
            nonlocal kept
            kept = self._kept(modules)

        try:
            yield settled
        except BaseException:
            kept()
            raise

    def _kept(self, modules: Sequence[nn.Module]) -> Callable[[], None]:
        """What makes the run again what it is now."""
        undo, place, counts, rows = (
            _undo(modules),
            self._place,
            [count.clone() for count in self._wins],
            len(self.history),
        )

        def again() -> None:
            undo()
            self._place, self._wins = place, counts
            del self.history[rows:]

        return again

    # warnings

    def _warn(self, number: int, text: str, stacklevel: int, *, once: bool = False) -> None:
        """Say what is wrong; ``once`` where nothing was said that differs in numbers alone."""
        told = self._warnings[number]
        if not (once and _wording(text) in map(_wording, told)):
            told.append(text)
            warnings.warn(f"layer {number + 1}: {text}", TrainingWarning, stacklevel=stacklevel + 1)

    def _diagnose(self, number: int, lesson: Lesson, times: Tensor, labels: Tensor | None) -> None:
        """Say what will keep a layer from learning; stop where nothing can."""
        layer, classes = self.network.stages[number].layer, self.network.classes
        with torch.no_grad(), lesson.prepared(layer):
            silence = diagnosis.silence(layer, times)
            if silence and self.on_silence == "stop":
                raise ValueError(f'layer {number + 1}: {silence} on_silence="warn" goes on all the same.')
            found = [silence] if silence else list(diagnosis.before(layer, times))
            found += lesson.before(layer)
        if lesson.needs_labels and labels is not None and classes is not None:
            found += diagnosis.labels(labels, classes)
        for text in found:
            self._warn(number, text, stacklevel=5)

    def _count(self, number: int, learned: Learned) -> None:
        winners = learned.winners.cpu()
        self._wins[number] += wins(winners, len(self._wins[number]))
        silent = float((winners[:, 0, 0] < 0).double().mean())
        hits = 0.0 if learned.right is None else float(learned.right.cpu().double().mean())
        shares = (hits, max(0.0, 1 - hits - silent), silent)
        self._place = _Place(self._place.stage, self._place.seen + len(winners), shares)

    def _record(self, number: int, learned: Learned) -> None:
        hits, misses, silent = self._place.shares
        row: dict[str, float] = {
            "layer": number + 1,
            "seen": self._place.seen,
            "hits": hits,
            "misses": misses,
            "silent": silent,
        }
        row |= learned.figures
        self.history.append(row)
        if self.writer is not None:
            for name in ("hits", "silent", *learned.figures):
                self.writer.add_scalar(f"layer {number + 1}/{name}", row[name], self._place.seen)

    def _passed(self, images: int, figures: Mapping[str, float]) -> None:
        """A row of the history, of a pass of the final lesson over so many images."""
        number = len(self._wins)
        whole = len(self._rows(number)) + 1
        row: dict[str, float] = {"layer": number + 1, "pass": whole, "seen": images * whole}
        row |= {"hits": 0.0, "misses": 0.0, "silent": 0.0, **figures}
        self.history.append(row)
        if self.writer is not None:
            for name in figures:
                self.writer.add_scalar(f"read-out/{name}", row[name], row["seen"])

    def _rows(self, number: int) -> list[dict[str, float]]:
        """What the history holds of a layer."""
        return [row for row in self.history if row["layer"] == number + 1]

    def _text(self, learned: Learned) -> str:
        row = self.history[-1]
        accuracy = "" if learned.right is None else f"accuracy {row['hits']:.1%}, "
        figures = [f", {name} {value:.3f}" for name, value in learned.figures.items()]
        return f"{accuracy}silent {row['silent']:.1%}{''.join(figures)}"

    @torch.no_grad()
    def _report(self, number: int, lesson: Lesson, source: Source) -> Report:
        stage, counts = self.network.stages[number], []
        for part in self.network.batches(source.head):
            times = self.network.features(part, number)
            passed = next(stage.parts(times)).times
            counts.append((passed < stage.layer.time_steps).flatten(1).sum(1).cpu())
        spikes, hints = torch.cat(counts).double(), list(diagnosis.few_images(lesson.epochs * len(source)))
        return Report(
            layer=number + 1,
            convergence=self._rows(number)[-1].get("convergence"),
            silent=float((spikes == 0).double().mean()),
            spikes=float(spikes.mean()),
            wins=self._wins[number].clone(),
            warnings=tuple(self._warnings[number]),
            hints=(*hints, *lesson.hints(stage.layer, times.shape[-2:])),
        )

    # checkpoints

    @contextmanager
    def _own(self, directory: Path) -> Iterator[None]:
        """The directory, made where it is missing, for this run alone."""
        with ExitStack() as stack:

            def take() -> None:
                directory.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=directory):
                    pass  # a folder that cannot be written to is better found now than hours later
                stack.enter_context(owned(directory))

            self.processes.told(take)
            yield

    def _may_begin(self) -> None:
        """Refuse to write over a run, before anything is read that may take hours."""
        if self.checkpoint is not None and self.checkpoint.exists() and not self.resume and not self._identity:
            raise FileExistsError(
                f"{str(self.checkpoint)!r} holds a run: resume=True goes on with it, another directory begins anew"
            )

    def _identify(self, source: Source, heed: Heed) -> dict[str, str]:
        """Whose a checkpoint is, but for its data, with an encoder that is fitted and all parts tried."""
        device = self.network.device
        fit(self.network.encoder, _Batches(source, device, heed))
        self.processes.take_([*self.network.parameters(), *self.network.buffers()])
        if self.last is not None:  # what would fail hours later
            self.last.module(self.network)(self.network._features(source.head[:1].to(device), None))
        identity = checkpoint.identify(self.network, self.lessons, self.last, source.head)
        identity["seed"] = f"{self.seed}, shuffle {self.shuffle}"
        self._code = self._code or checkpoint.users_code(self.lessons, self.last, self.network.stages)
        return identity | self._code

    def _begin(self, content: Any, identity: dict[str, str], source: Source, answers: Answers) -> Tensor | None:
        """Go on from a checkpoint, if there is one, or from an earlier call, with the same data; gives the labels."""
        if source.identity is None:  # only a pass tells what images and labels there are: that of the encoder
            answers(0)
        labels, names = source.numbered(self.network.names)
        if self.last is not None:
            self.last.fits(self.last.module(self.network), labels)
        data = {"images": str(source.identity), "labels": "none" if labels is None else digest(labels)}
        for name, mine in data.items():
            if self._identity.get(name, mine) != mine:
                raise ValueError(f"this Trainer has begun with other {name}; make a new one to learn these")
        if content is not None and self.checkpoint is not None:
            checkpoint.same(self.checkpoint, content["identity"], data)
            self._restore(content, self.checkpoint)
        if self.directory is not None and self.processes.first:  # a run that was killed could not
            sweep([*self.directory.glob(".checkpoint.pt.*.part"), *self.directory.glob(".answers-*.part")])
        self.network.names = names
        self._identity, self._saved = identity | data, time.monotonic()
        return labels

    def _heeding(
        self, parts: Iterable[Tensor], asked: Callable[[], bool], interrupted: Callable[[], bool]
    ) -> Iterator[Tensor]:
        """Parts as they come; after Ctrl-C, by which workers of a DataLoader end too, no more."""
        coming = iter(parts)
        while True:
            try:
                part = next(coming, None)
            except Exception:
                if not asked():
                    raise
                part = None
            if interrupted():
                raise self._stopped()
            if part is None:
                return
            yield part

    def _stopped(self) -> KeyboardInterrupt:
        return KeyboardInterrupt(f"stopped; {str(self.directory)!r} holds the state, resume=True goes on")

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.checkpoint is None or not self.processes.first:
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
            "readout": None if self.last is None else self.last.module(self.network).state_dict(),
            "final rule": self._final_state(),
            "rules": [
                None if rule is None else checkpoint.state(rule, layer)
                for rule, layer in zip(self._rules, layers, strict=True)
            ],
            "history": json.dumps(self.history),
            "warnings": json.dumps(self._warnings),
        }
        save(content, self.checkpoint)

    def _final_state(self) -> dict[str, Any] | None:
        """That of the final lesson's rule, without the read-out's own, which every checkpoint holds."""
        if self.last is None or self._last_rule is None:
            return None
        return checkpoint.state(self._last_rule, self.last.module(self.network))

    def _found(self, identity: dict[str, str], images: int) -> Any:
        """The checkpoint of this run, None where there is none."""
        path = self.checkpoint
        if path is None:
            return None

        def read() -> Any:
            if not path.exists():
                return None
            return checkpoint.read(path, identity, self.network, self.lessons, self.last, images)

        return self.processes.told(read)

    def _restore(self, content: Any, path: Path) -> None:
        """Take the state that a checkpoint holds."""
        for number, state in enumerate(content.get("rules", [])):
            if state is not None:
                checkpoint.restore(self._rule(number), state, path)
        for stage, weight, threshold in zip(
            self.network.stages, content["weights"], content["thresholds"], strict=True
        ):
            stage.layer.load_weight(weight)
            stage.layer.threshold = threshold
        if self.last is not None:
            self.last.module(self.network).load_state_dict(content["readout"])
            if content.get("final rule") is not None:
                checkpoint.restore(self._final(self.last), content["final rule"], path)
        self._place = _Place(content["stage"], content["seen"], tuple(content["shares"]))
        self._wins, self.history = content["wins"], json.loads(content["history"])
        self._warnings = json.loads(content.get("warnings", "[]")) or [[] for _ in self.network.stages]


class _Follower:
    """What a final lesson tells its trainer."""

    def __init__(
        self,
        trainer: Trainer,
        images: int,
        bar: Any,
        settled: Callable[[], None],
        interrupted: Callable[[], bool],
    ) -> None:
        self.trainer, self.images, self.bar, self.settled, self.interrupted = trainer, images, bar, settled, interrupted

    def heard(self, images: int, text: str = "") -> None:
        self.bar.update(images)
        if text:
            self.bar.set_postfix_str(text)
        if self.interrupted():
            raise self.trainer._stopped()

    def passed(self, figures: Mapping[str, float]) -> None:
        self.trainer._passed(self.images, figures)
        self.settled()
        if self.interrupted() or time.monotonic() - self.trainer._saved > self.trainer.checkpoint_seconds:
            self.trainer._save()
        if self.interrupted():
            raise self.trainer._stopped()

    def warn(self, text: str) -> None:
        warnings.warn(f"read-out: {text}", TrainingWarning, stacklevel=6)

    def random(self, number: int) -> "np.random.Generator":
        return np.random.default_rng([self.trainer.seed, len(self.trainer._wins), number])


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without warnings, which another process gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@lru_cache(1)  # all periods of an epoch take a part of it
def _shuffled(seed: tuple[int, ...], count: int) -> "np.ndarray[Any, Any]":
    """An order of images."""
    return np.random.default_rng(seed).permutation(count)


def _checked(learned: Any, images: int) -> Learned:
    """What a lesson says that it learned."""
    if not isinstance(learned, Learned):
        raise check.fail_type("learn", "a lesson's method that returns a training.Learned", learned)
    winners, right = learned.winners, learned.right
    if winners.dtype != torch.int64 or winners.ndim != 3 or len(winners) != images or winners.shape[2] != 3:
        raise check.fail("winners", f"int64 of shape ({images}, k, 3), of the images learned", winners)
    if right is not None and (right.dtype != torch.bool or right.shape != (images,)):
        raise check.fail("right", f"bool of shape ({images},), of the images learned, or None", right)
    return learned


def _wording(text: str) -> str:
    """A text without its numbers."""
    return re.sub(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", "0", text)


def _undo(modules: Sequence[nn.Module]) -> Callable[[], None]:
    """What makes parameters and buffers again what they are now, even where others have taken their place."""
    parts = {id(part): part for module in modules for part in module.modules()}.values()
    places = [
        (store, name, tensor)
        for part in parts
        for store in (part._parameters, part._buffers)
        for name, tensor in store.items()
    ]
    alike: dict[Any, list[Tensor]] = {}  # rates are many and small: they are copied together
    for _, _, tensor in places:
        if tensor is not None:
            alike.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    with torch.no_grad():
        kept = [torch.cat([tensor.reshape(-1) for tensor in tensors]) for tensors in alike.values()]

    def undo() -> None:
        with torch.no_grad():
            for store, name, tensor in places:
                store[name] = tensor  # type: ignore[assignment]
            for tensors, values in zip(alike.values(), kept, strict=True):
                sizes = [tensor.numel() for tensor in tensors]
                for tensor, value in zip(tensors, torch.split(values, sizes), strict=True):
                    tensor.copy_(value.view(tensor.shape))

    return undo


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
