"""The protocol of a lesson: all that the trainer knows of what a layer is taught."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.snn import SpikingConvolution
from spyketorch.training import _diagnosis as diagnosis
from spyketorch.training._diagnosis import Course
from spyketorch.training._schedules import Progress


class Period(NamedTuple):
    """Some images, which a layer learns before its schedule is asked again.

    Attributes:
        times: first-spike times that the layer gets, ``(N, C, H, W)``, beside it, in the order they are learned in.
        labels: class of each, ``(N,)``, beside them; None where the trainer has none.
        classes: of the network's deciding features, ``(features,)``; None where it has none.
        progress: how far the lesson is, and how the last period went.
        random: what the lesson draws from, seeded by the run, the epoch and the images learned, so that a run that is
            resumed draws the same.
    """

    times: Tensor
    labels: Tensor | None
    classes: Tensor | None
    progress: Progress
    random: "np.random.Generator"


class Learned(NamedTuple):
    """What came of a period.

    Attributes:
        winners: of each image, (feature, row, column), int64 ``(N, k, 3)``, rows of -1 for none. Their features count
            as having learned; an image whose first row is none counts as silent.
        right: bool ``(N,)``, which images were decided right; None where the lesson decides nothing.
        figures: further numbers of the period, for the history, by name.
        warnings: why the network may not be learning, and what to change; texts that differ in numbers alone are told
            once.
    """

    winners: Tensor
    right: Tensor | None = None
    figures: Mapping[str, float] = MappingProxyType({})
    warnings: Sequence[str] = ()


@runtime_checkable
class Lesson(Protocol):
    """What a layer is taught: settings, a rule that learns, and how it learns one period of images.

    :class:`spyketorch.training.Trainer` knows no more of a lesson than this. What changes while it learns is state of
    the layer, or in ``rule``, whose ``state_dict`` is saved; the lesson itself stays as it is, best as a frozen
    dataclass, whose ``repr`` tells a checkpoint one from another. Those that inherit from this class write :meth:`rule`
    and :meth:`learn`, and what else is not as here. :func:`spyketorch.testing.check_lesson` holds them to it.

    Attributes:
        epochs: passes over the images.
        period: images that are learned between two checkpoints.
        needs_labels: whether it learns from labels.
    """

    needs_labels: ClassVar[bool] = False

    if TYPE_CHECKING:  # to be read alone, as the fields of a frozen dataclass

        @property
        def epochs(self) -> int:
            return 1

        @property
        def period(self) -> int:
            return 500
    else:
        epochs: int = 1
        period: int = 500

    @abstractmethod
    def rule(self, stage: Stage) -> nn.Module:
        """What learns, made anew for a stage; its ``state_dict`` holds all that changes with what it learned."""

    @abstractmethod
    def learn(self, rule: Any, period: Period) -> Learned:
        """Learn one period of images with the rule that :meth:`rule` made."""

    def fits(self, network: Network, number: int) -> None:
        """Raise a ValueError where stage ``number`` of the network cannot have this lesson."""
        return

    def identity(self) -> str:
        """What tells this lesson from others beside its ``repr``, such as what its schedule says."""
        return ""

    @property
    def learns_threshold(self) -> bool:
        """Whether the layer's thresholds are learned, as its weights are."""
        return False

    def prepared(self, layer: SpikingConvolution) -> AbstractContextManager[None]:
        """The layer as it is while it learns, such as with another threshold; what is said before is said of that."""
        return nullcontext()

    def before(self, layer: SpikingConvolution) -> Iterable[str]:
        """What will keep the layer from learning, beside what keeps any."""
        return ()

    def after(self, layer: SpikingConvolution, course: Course) -> Iterable[str]:
        """What went wrong, beside a layer that has fallen silent; by default that few features learned."""
        return diagnosis.winners(course)

    def hints(self, layer: SpikingConvolution, size: Sequence[int]) -> Iterable[str]:
        """What is no fault, but may explain a result, of a layer that sees maps of that size."""
        return ()


class Following(Protocol):
    """How the trainer follows a final lesson: what the lesson tells of each pass over the images."""

    def heard(self, images: int, text: str = "") -> None:
        """So many images have been heard. May stop the lesson: what came after the last whole pass is undone then."""

    def passed(self, figures: Mapping[str, float]) -> None:
        """A pass is whole: its state may be saved, and a run that is stopped goes on from here.

        Args:
            figures: of the pass, for the history, by name; a share of right decisions is called ``hits``.
        """

    def warn(self, text: str) -> None:
        """Why the read-out may not be learning, and what to change."""

    def random(self, number: int) -> "np.random.Generator":
        """What a pass draws from, by its number: the same in a run that was stopped and resumed."""


@runtime_checkable
class FinalLesson(Protocol):
    """What is learned after the layers, from what the last one passes on for all images at once: a read-out.

    Attributes:
        passes: over the images, at most.
        needs_labels: whether it learns from labels.
    """

    needs_labels: ClassVar[bool] = True

    if TYPE_CHECKING:

        @property
        def passes(self) -> int:
            return 1
    else:
        passes: int = 1

    @abstractmethod
    def module(self, network: Network) -> nn.Module:
        """The part of the network that learns; a ValueError where it has none."""

    def fits(self, module: Any, labels: Tensor | None) -> None:
        """Raise a ValueError, before any layer learns, where these labels cannot be learned."""
        return

    def rule(self, module: nn.Module) -> nn.Module:
        """What learns, made anew for the module; its ``state_dict`` holds all that changes while it learns."""
        return module

    @abstractmethod
    def fit(self, rule: Any, times: Tensor, labels: Tensor | None, follow: Following) -> None:
        """Fit what :meth:`rule` made to first-spike times ``(N, C, H, W)``, or go on where it was stopped."""


def wins(winners: Tensor, features: int) -> Tensor:
    """How often each feature won."""
    won = winners[..., 0].flatten()
    return torch.zeros(features, dtype=torch.int64, device=won.device).index_add_(
        0, won.clamp(min=0), (won >= 0).long()
    )


@contextmanager
def with_threshold(layer: Any, threshold: float | None) -> Iterator[None]:
    """The layer with another threshold than its own."""
    own, layer.threshold = layer.threshold, threshold
    try:
        yield
    finally:
        layer.threshold = own
