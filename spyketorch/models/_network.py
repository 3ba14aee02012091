"""A network: an encoder and stages, its decision, and its files."""

import itertools
import json
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _files
from spyketorch import _identity as identity
from spyketorch._state import numbers
from spyketorch.data._source import Images, sourced
from spyketorch.learning._task import answer
from spyketorch.models._batches import batch_size, batches
from spyketorch.models._images import ImageSpec, look, looked_at, quiet_encoder
from spyketorch.models._stage import Part, Stage
from spyketorch.models._summary import Summary, Tally, classes_row, readout_row, shaped

_EXTRA = "_extra_state"  # torch's name for what is no tensor of a module
_ANYHOW = "`strict=False`, in its own `load_state_dict`, takes its tensors, where shapes and time steps are the same"


class Network(nn.Module):
    """An encoder and stages, trained one after the other by :class:`spyketorch.training.Trainer`.

    Args:
        encoder: images ``(N, C, H, W)`` to first-spike times. One that has a ``gather``, from a list of what is no
            tensor to a batch that it takes, as :class:`spyketorch.encoding.EventLatency` does, lets the network take
            such lists.
        stages: from the image up. May be none, so that a ``readout`` hears the encoder itself, such as several trained
            networks :class:`Together`; the encoder has the attribute ``time_steps`` then.
        classes: class of each feature of the last layer, for decisions by its first winner. The last stage has no pool,
            shortcut, hook or ``forward`` of its own then, which would not be heard.
        images: what images it is made for, an :class:`ImageSpec`, or None: others are refused, or warned of.
        names: of the classes, from that of number 0 on, which :meth:`predict` gives; None for numbers. They are saved
            with the weights. :class:`spyketorch.training.Trainer` takes those of its data where there are none.

    Attributes:
        readout: None, or a module from :meth:`features` to class scores ``(N, classes)``, which then decides.
            All parts, it too, have one ``time_steps``, in which T stands for silence; it is looked at in every call.
        batch_memory: bytes that answers to many images may take at once, in ``Trainer``, ``evaluate``, ``summary`` and
            ``get_mean_stimuli``; what they give does not depend on it. 256 MB; set it on a network or on the class.

    Shape:
        Images ``(N, C, H, W)`` to decisions, int64 ``(N,)``, -1 where no neuron fired, with a read-out too.

    Example:
        >>> from spyketorch import models
        >>> network = models.mozafari2019()
        >>> network(torch.randint(0, 256, (3, 1, 28, 28))).shape
        torch.Size([3])
    """

    classes: Tensor
    stages: Sequence[Stage]
    batch_memory: float = 2**28
    _decides_nothing = ("images", "batch_memory", "_names")  # of the attributes, which a state_dict does not compare

    def __init__(
        self,
        encoder: nn.Module,
        stages: Sequence[Stage],
        classes: Sequence[int] | Tensor | None = None,
        *,
        images: ImageSpec | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(stages, Sequence | nn.ModuleList):
            raise check.fail("stages", "a list of models.Stage", stages)
        for stage in stages:
            if not isinstance(stage, Stage):
                raise check.fail_type("stages", "a list of models.Stage", stage)
        if images is not None and not isinstance(images, ImageSpec):
            raise check.fail_type("images", "a models.ImageSpec, or None", images)
        self.encoder = check.module(encoder, "encoder")
        for number, (below, stage) in enumerate(itertools.pairwise(stages), 1):
            given = below.layer.out_channels + (0 if below.shortcut is None else below.layer.in_channels)
            read = stage.layer.in_channels
            several: Any = getattr(below.pool, "earliest", 1)
            if isinstance(several, tuple):
                raise ValueError(
                    f"`stages`[{number - 1}] must pass maps of one spike for each window on to a layer; its pool "
                    f"passes earliest={several} as a read-out alone hears them: give the last stage such a pool"
                )
            if read != given:
                raise ValueError(f"`stages`[{number}] reads {read} features, but stages[{number - 1}] gives {given}")
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]
        if not len(stages):
            check.steps(getattr(encoder, "time_steps", None), "encoder.time_steps")
        if classes is not None and not len(stages):
            raise check.fail("classes", "None without `stages`, whose last layer decides", classes)
        if classes is not None:
            classes = check.classes(classes, stages[-1].layer.out_channels)
        self.register_buffer("classes", classes, persistent=False)
        self.images = images
        self.names = names
        self.readout: nn.Module | None = None
        self._shape: tuple[int, ...] | None = None  # of the images that it answered to last
        self._probed: tuple[nn.Module, int] | None = None  # an encoder that has been asked what silence is
        self._agree()
        if classes is not None:
            self._deciding()

    def __setstate__(self, state: dict[str, Any]) -> None:
        since_0_1 = {"images": None, "_names": None, "_shape": None, "_probed": None}
        super().__setstate__({**since_0_1, **state})  # type: ignore[no-untyped-call]

    @property
    def time_steps(self) -> int:
        """T of all parts, in which times from 0 to T - 1 are spikes and T is silence."""
        told: Any = self.stages[0].layer if len(self.stages) else self.encoder
        steps: int = told.time_steps
        return steps

    @property
    def device(self) -> torch.device:
        """Where images are answered to."""
        if len(self.stages):
            return self.stages[0].layer.weight.device
        held = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if held is None else held.device

    def _agree(self) -> int:
        """T, once all parts have the same."""
        steps = self.time_steps
        for part in self.modules():
            if getattr(part, "time_steps", steps) != steps:
                name = next(name for name, module in self.named_modules() if module is part)
                raise ValueError(
                    f"all parts of a network must have the same `time_steps`, as T stands for silence; `{name}` has "
                    f"{part.time_steps}, but `{'stages.0.layer' if len(self.stages) else 'encoder'}` {steps}"
                )
        return steps

    def _deciding(self) -> Stage:
        """The last stage, once it is known that its layer's first winner is what the network makes of an image."""
        stage = self.stages[-1]
        behind = [name for name in ("pool", "shortcut") if getattr(stage, name) is not None]
        behind += ["forward"] * (type(stage).forward is not Stage.forward or "forward" in vars(stage))
        behind += ["hook"] * bool(stage._forward_hooks or stage._forward_pre_hooks)
        if behind:
            raise ValueError(
                f"`stages`[-1] must be a Stage without a {behind[0]} of its own where `classes` decide, as its layer's "
                "first winner decides and nothing behind it is heard; leave it out, or set a `readout`, which hears it"
            )
        return stage

    def _ready(self) -> None:
        """Refuse what would answer without a word, and wrong.

        Raises:
            ValueError: parts with another ``time_steps``; weights, thresholds or numbers of the read-out that are NaN.
        """
        self._agree()
        numbers(self)

    def features(self, images: Tensor | Sequence[Any], stages: int | None = None) -> Tensor:
        """First-spike times that the last stage passes on, or the last of the first ``stages``; 0 is the encoder.

        Raises:
            ValueError: images of another shape than the network was made for.
        """
        if stages is not None:
            check.integer(stages, "stages", -len(self.stages))
        given = check.images(self._gathered(images), single=True)
        look(self.images, given, stacklevel=4)
        self._shape = tuple(given.shape[-3:])
        return self._features(given, stages)

    def _encode(self, images: Tensor) -> Tensor:
        """What the encoder makes of images ``(N, C, H, W)``; its silence is that of the layers."""
        if torch.compiler.is_compiling():
            return self.encoder(images)  # type: ignore[no-any-return]
        steps = self._agree()
        if self._probed is None or self._probed[0] is not self.encoder or self._probed[1] != steps:
            self._probed = self.encoder, steps
            quiet_encoder(self.encoder, images, steps)
        times: Tensor = self.encoder(images)
        return times

    def _features(self, images: Tensor, stages: int | None) -> Tensor:
        times = self._encode(images)
        for stage in self.stages[:stages]:
            times = stage(times)
        return times

    def parts(self, images: Tensor) -> Iterator[Part]:
        """What each part makes of images ``(N, C, H, W)``, from the encoder up.

        Example:
            >>> from spyketorch import models
            >>> [part.name for part in models.mozafari2018().parts(torch.rand(1, 1, 97, 97))]
            ['encoder', 'stages[0].layer']
        """
        times = self._encode(images)
        yield Part("encoder", self.encoder, times)
        for number, stage in enumerate(self.stages):
            for part in stage.parts(times):
                yield part._replace(name=f"stages[{number}]" + (f".{part.name}" if part.name else ""))
            times = part.times

    def _gathered(self, images: Any) -> Any:
        """Images as one tensor; of what is none, such as streams of events, the encoder may make one."""
        gather = getattr(self.encoder, "gather", None)
        if gather is None or not isinstance(images, list | tuple):
            return images
        return gather(images).to(self.device)

    def forward(self, images: Tensor | Sequence[Any]) -> Tensor:
        images = check.images(self._gathered(images))
        if self.readout is not None:
            return self._read(self.readout, self.features(images))
        if self.classes is None:
            raise ValueError("this network has neither `classes` nor a `readout`, so it cannot decide; see `features`")
        stage = self._deciding()
        first = stage.layer.winners(self.features(images, -1), pointwise_inhibition=stage.inhibit)[:, 0, 0]
        return torch.where(first < 0, -1, self.classes[first.clamp(min=0)])

    def _read(self, readout: nn.Module, times: Tensor) -> Tensor:
        """The class of the largest score, -1 where nothing fired that could be read."""
        heard = times.amin((1, 2, 3)) < self.time_steps
        return torch.where(heard, readout(times).argmax(1), -1)

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the classes, from that of number 0 on; None where they are but numbers."""
        return self._names

    @names.setter
    def names(self, names: Sequence[str] | None) -> None:
        self._names = None if names is None else check.names(names, "names")

    def predict(self, images: Images) -> list[str | int | None]:
        """The class of each image: its name, or its number where it has no name; None where no neuron fired.

        Args:
            images: one image ``(C, H, W)``, a batch, an array, a picture of PIL, a list of those, a ``Dataset`` or an
                iterable of batches, such as a DataLoader. They are prepared as those that it learned from, such as by
                the same transform.

        Example:
            >>> from spyketorch import models
            >>> network = models.mozafari2018()
            >>> network.names = ["face", "motorbike"]
            >>> network.predict(torch.zeros(1, 97, 120))  # nothing to be seen
            [None]
        """
        names = self.names or ()
        decided = self._of_each(images, self)
        return [None if one < 0 else names[one] if one < len(names) else one for one in decided.tolist()]

    def scores(self, images: Images) -> Tensor:
        """How much speaks for each class, ``(N, classes)``, on the CPU; the largest is that of the decision.

        - With a read-out its scores: about 1 for a class that it is sure of, -1 for others.
        - Where the last layer has a threshold, how early the first of a class' neurons fires, and with which potential
          v: T - t + (1 + v / (1 + abs(v))) / 2, between 1 and T + 1; 0 where none of them fires.
        - Where it fires at the last time step, the largest potential of a class' neurons; 0 where none of them fires.

        Of classes that are equal the one that is decided gets the last bit more. An image that is not decided, as no
        neuron answers to it, has a row of 0, or with a read-out the scores of silence.

        Args:
            images: as for :meth:`predict`.

        Example:
            >>> from spyketorch import models
            >>> models.mozafari2018().scores(torch.zeros(1, 97, 120))
            tensor([[0., 0.]])
        """
        return self._of_each(images, self._scores)

    @torch.no_grad()
    def _of_each(self, images: Images, answers: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function makes of images in any form, on the CPU."""
        source, device = sourced(self._gathered(images), single=True), self.device
        with looked_at(self.images, source.at_hand, stacklevel=5):
            size = 1 if source.count == 1 else batch_size(self, source.head)
            return torch.cat([answers(some.to(device)).cpu() for some in source.chunks(size)])

    def _scores(self, images: Tensor) -> Tensor:
        if self.readout is not None:
            scores: Tensor = self.readout(self.features(images))
            return scores
        decided, layer = self(images)[:, None], self._deciding().layer
        times, potentials = answer(layer, self.features(images, -1))
        early = layer.time_steps - times.to(potentials)
        value = potentials if layer.threshold is None else early + (1 + potentials / (1 + potentials.abs())) / 2
        best = torch.where((early > 0) & (potentials != 0), value, 0).flatten(2).amax(2)  # of each feature
        count = int(self.classes.max()) + 1
        column = torch.where(self.classes < 0, count, self.classes).expand(len(best), -1)  # the last stands for none
        scores = best.new_zeros(len(best), count + 1).scatter_reduce(1, column, best, "amax")[:, :count]
        first = scores.gather(1, decided.clamp(min=0))
        scores = scores.minimum(torch.nextafter(first, torch.zeros_like(first))).scatter(1, decided.clamp(min=0), first)
        return torch.where(decided < 0, 0, scores)

    def batches(self, images: Tensor) -> Iterator[Tensor]:
        """The images in parts, beside the network, each as large as ``batch_memory`` allows."""
        return batches(self, check.images(images))

    # files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ``state_dict`` to a file, whole or not at all, with a checksum; :meth:`load` reads it.

        Example:
            >>> import pathlib, tempfile
            >>> from spyketorch import models
            >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.pt"
            >>> models.mozafari2019().save(path)
            >>> network = models.mozafari2019()
            >>> network.load(path)
        """
        _files.save(self.state_dict(), check.file(path, "path"))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take the ``state_dict`` from a file that :meth:`save` wrote, of a network that was built in the same way.

        Raises:
            FileNotFoundError, IsADirectoryError: no such file.
            ValueError: a file that is damaged, or of a network that was built otherwise; the first difference is named.
            RuntimeError: weights of other shapes, or NaN among them.
        """
        path = check.file(path, "path")
        try:
            state = _files.load(path)
        except _files.DamagedFile as error:
            raise ValueError(f"`path`: {error}; take another copy, or save the network anew") from error
        if not isinstance(state, dict):
            raise ValueError(f"`path` must name a file with the state_dict of a network; {str(path)!r} holds another")
        self.load_state_dict(state)

    def get_extra_state(self) -> Tensor:
        """How the network is built and, where parts are the user's own, its answers to a sample; for ``state_dict``."""
        kept: dict[str, Any] = {
            "settings": identity.written(identity.settings(self, "network")),
            "sample": self._sample(self._shape),
        }
        kept |= {"names": self.names} if self.names is not None else {}
        return torch.frombuffer(bytearray(json.dumps(kept).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the ``state_dict`` of a network that is built otherwise; take the names of its classes."""
        try:
            settings, _, names = _kept(state)
            found = identity.unlike(settings, identity.written(identity.settings(self, "network")))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"`state_dict` does not tell how its network is built ({error!r}); {_ANYHOW}") from error
        if found:
            raise ValueError(f"`state_dict` is that of a network built otherwise: {found}. Build it alike; {_ANYHOW}")
        self.names = self.names if names is None else names

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As every module's; but a network that is built otherwise is refused with a ValueError, unless not strict.

        A ``state_dict`` of 0.1, which does not say how its network was built, is taken by its shapes alone.
        """
        found = super().load_state_dict(state_dict if strict else self._tensors(state_dict), strict, assign)
        if strict and _EXTRA in state_dict:
            _, there, _ = _kept(state_dict[_EXTRA])
            here = there and self._answers(there["images"])
            other = identity.share_unlike(there["answers"], here["answers"]) if there and here else 0.0
            if other > 0.01:  # the last bit of a computed intensity may move a spike
                raise ValueError(
                    f"`state_dict` is that of a network that answers otherwise: {other:.0%} of the spike times differ "
                    f"on a sample, though its settings are the same. Look at the modules of your own; {_ANYHOW}"
                )
        return found

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *others)
        missing: list[str] = others[2]
        missing[:] = [key for key in missing if key != f"{prefix}{_EXTRA}"]  # a state_dict of 0.1

    def _tensors(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Without how this network and those within it were built; modules are not told whether loading is strict."""
        if not isinstance(state_dict, Mapping):
            return state_dict  # torch says what it takes
        rest: Any = OrderedDict(state_dict)
        if hasattr(state_dict, "_metadata"):
            rest._metadata = state_dict._metadata  # torch's versions
        for name, module in self.named_modules():
            if isinstance(module, Network):
                rest.pop(f"{name}.{_EXTRA}" if name else _EXTRA, None)
        return rest  # type: ignore[no-any-return]

    def _sample(self, shape: Sequence[int] | None) -> dict[str, list[int]] | None:
        """Answers to images of values up to 1 and up to 255; None where no part is the user's own or has a hook."""
        own = any(map(identity.its_own, self.modules())) or any(_own_neurons(stage.layer) for stage in self.stages)
        if shape is None or not (own or identity.hooks(self)):
            return None
        return self._answers(shape)

    @torch.no_grad()
    def _answers(self, shape: Sequence[int]) -> dict[str, list[int]] | None:
        """Answers of all parts to a sample; None where they cannot, or are random."""
        images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
        images[1] *= 255

        def answer() -> Tensor:
            given = images.to(self.device, self.stages[0].layer.weight.dtype if len(self.stages) else None)
            return torch.cat([self._features(given, number).flatten() for number in range(len(self.stages) + 1)])

        try:
            answers = [answer(), answer()]
        except Exception:  # whatever a module of the user's own demands
            return None
        if not torch.equal(*answers):  # random
            return None
        return {"images": list(shape), "answers": answers[0][:: -(-len(answers[0]) // 10_000)].tolist()}

    def summary(self, images: Tensor | Sequence[int]) -> Summary:
        """A table of the parts: what each gives, its threshold, weights and neurons, and how it answers to images.

        Args:
            images: ``(N, C, H, W)``, to which the network answers: spikes per image, and the share of images for which
                a part stays silent, are counted. Or the shape of one image, ``(C, H, W)``, for a table without them.

        Example:
            >>> from spyketorch import models
            >>> models.kheradpisheh2018().summary((1, 28, 28))
            part                kind                      output         threshold  weights  neurons
            ----------------------------------------------------------------------------------------
            encoder             LatencyEncoder            2 x 28 x 28                          1,568
            stages[0].layer     SpikingConvolution 5 x 5  32 x 28 x 28          15    1,600   25,088
            stages[0].pool      SpikingPooling 2 x 2      32 x 14 x 14                         6,272
            stages[1].layer     SpikingConvolution 2 x 2  150 x 15 x 15          6   19,200   33,750
            stages[1].pool      SpikingPooling 3 x 3      150 x 7 x 7                          7,350
            stages[1].shortcut  SpikingPooling 2 x 2      182 x 7 x 7                          8,918
            readout             LinearReadout             10                         89,190
            ----------------------------------------------------------------------------------------
            total                                                                   109,990   82,946
        """
        given = shaped(images)
        self._ready()
        tally = Tally(self.time_steps)
        with torch.no_grad(), looked_at(self.images, given, stacklevel=4):
            for some in self.batches(given):
                for part in self.parts(some):
                    tally.answered(*part)
                if self.readout is not None:
                    tally.decided(readout_row(self.readout, part.times), self(some))
                elif self.classes is not None:
                    tally.decided(classes_row(self.classes), self(some))
        return tally.summary(given is images)

    def extra_repr(self) -> str:
        known = self.classes is not None and check.readable(self.classes)
        return f"classes={len(set(self.classes.tolist()))}" if known else ""


def _own_neurons(layer: nn.Module) -> bool:
    """Whether a layer has neurons of the user's own, whose answers their settings alone do not tell."""
    return not type(getattr(layer, "neuron", None)).__module__.startswith(("spyketorch.", "builtins"))


def _kept(state: Tensor) -> tuple[dict[str, Any], dict[str, list[int]] | None, tuple[str, ...] | None]:
    """The settings, the sample and the names of a ``state_dict``; an error where it holds no such things."""
    kept = json.loads(bytes(state.tolist()))
    settings, sample = kept["settings"], kept["sample"]
    if sample is not None:
        numbers = [*sample["images"], *sample["answers"]]
        if not all(type(number) is int for number in numbers) or not 0 < math.prod(sample["images"]) <= 2**26:
            raise ValueError("a sample that is none")
    names = kept.get("names")  # which came later
    return settings, sample, None if names is None else check.names(names, "names")
