"""Where a training stands, for whoever watches it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spyketorch.models._network import Network


class Moment(NamedTuple):
    """Where a training stands after a period of images, as ``watch`` of :class:`Trainer` is told.

    Attributes:
        network: what learns, with the weights as they are now.
        stage: which of its stages learns, from 0.
        total: images that this stage is shown in all, epochs together.
        history: of the trainer; its last row is that of this period.
    """

    network: Network
    stage: int
    total: int
    history: Sequence[Mapping[str, float]]

    @property
    def seen(self) -> int:
        """Images that the stage has seen."""
        return int(self.history[-1]["seen"])

    @property
    def finished(self) -> bool:
        """Whether the stage has learned all that its lesson has."""
        return self.seen >= self.total
