"""What R-STDP knows of the samples that it learns."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check


def _device(value: Any) -> torch.device:
    return value.device if isinstance(value, Tensor) else torch.device("cpu")


class Teacher(NamedTuple):
    """What R-STDP knows of a chunk: the class of each sample and of each feature, and which features take part.

    ``correction`` 0 learns from every decision; 1 and 2 only from mistakes, and decide anew without the features of the
    mistaken class (1) or with those of the right class alone (2), in ``turns`` decisions at most.
    """

    labels: Any  # tensors, or arrays in loops
    classes: Any
    correction: int
    active: Any
    turns: int

    @classmethod
    def of(cls, times: Tensor, features: int, labels: Any, classes: Any, correction: Any, active: Any) -> "Teacher":
        """Checked, from what a caller may write."""
        kind, device = check.CORRECTIONS[check.correction(correction)], times.device
        known = check.indices(classes, "classes", features, _device(classes))
        turns = (1, features, 2)[kind]
        if kind == 1 and check.readable(known):  # each turn silences a class
            turns = len(torch.unique(known))
        if active is None:
            active = torch.ones(1, dtype=torch.bool, device=device).expand(len(times), features)
        elif check.tensor(active, "active").dtype != torch.bool or active.shape != (len(times), features):
            raise check.fail("active", f"a bool tensor of shape ({len(times)}, {features})", active)
        check.same_device(active, "active", times, "times")
        return cls(check.indices(labels, "labels", len(times), device), known.to(device), kind, active, turns)

    @classmethod
    def nobody(cls, samples: int, features: int) -> "Teacher":
        """For the loops: all samples are rewarded, and all features take part."""
        unknown = np.empty(0, np.int64)
        return cls(unknown, unknown, 0, np.ones((samples, features), np.bool_), 1)

    def arrays(self) -> "Teacher":
        """The same for the loops."""
        labels, classes = self.labels.numpy(), self.classes.numpy()
        return self._replace(labels=labels, classes=classes, active=self.active.contiguous().numpy())

    def wrong(self, samples: slice, features: Tensor) -> Tensor:
        """Which of some samples these features decide wrong."""
        differs: Tensor = self.classes[features] != self.labels[samples]
        return differs

    def distinct(self) -> Tensor:
        """The classes that there are, ``(turns,)`` of "guess", without a wait for the device."""
        ordered: Tensor = self.classes.sort().values
        number = (ordered[1:] != ordered[:-1]).cumsum(0)
        return ordered[: self.turns].scatter(0, number, ordered[1:])

    def of_some(self, samples: slice) -> "Teacher":
        """What is known of some of the samples."""
        return self._replace(labels=self.labels[samples], active=self.active[samples])
