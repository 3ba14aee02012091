"""Parts of an encoder that are fitted to images: what they are, and how each gets what the parts before it make."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch._state import CheckedState, finite

_AT_ONCE = 256  # images of a tensor that are looked at together, which bounds memory


@runtime_checkable
class Fitted(Protocol):
    """What is fitted to images before it answers: a part of an encoder, or all of it.

    It is a :class:`torch.nn.Module`, which keeps what it found in buffers, so that a network saves it with its weights.
    :class:`Whitening`, :class:`LinearLatency` and :class:`EqualizedLatency` are three; :func:`fit` finds and fits those
    within a module, and :class:`spyketorch.training.Trainer` those of a network's encoder.

    Attributes:
        fitted: whether it has been.

    Example:
        >>> from spyketorch.encoding import Fitted, LinearLatency
        >>> encode = LinearLatency(torch.nn.Identity(), 15)
        >>> isinstance(encode, Fitted), encode.fitted, encode.fit(torch.rand(9, 1, 5, 5)).fitted
        (True, False, True)
    """

    @property
    def fitted(self) -> bool: ...

    def fit(self, images: Tensor | Iterable[Any], /) -> Self:
        """Fit it to images ``(N, C, H, W)``, or to batches of them; gives the part itself."""
        ...


class Batches:
    """Images in batches ``(N, C, H, W)``, which can be gone through several times.

    Args:
        images: a tensor; or an iterable of batches, or of tuples that begin with one, as a ``DataLoader`` gives them.
            An iterator, such as a generator, can be gone through once.
    """

    def __init__(self, images: Tensor | Iterable[Any]) -> None:
        if not isinstance(images, Tensor | Iterable) or isinstance(images, str | bytes):
            raise check.fail_type("images", "a tensor (N, C, H, W), or an iterable of such batches", images)
        self.parts: Iterable[Any] = images
        if isinstance(images, Tensor):
            self.parts = torch.split(check.images(images), _AT_ONCE)

    def first(self) -> Tensor:
        """The first batch, which comes again when they are gone through."""
        parts = iter(self.parts)
        found = list(itertools.islice(parts, 1))
        if parts is self.parts:
            self.parts = itertools.chain(found, parts)
        return next(iter(Batches(found)))

    def __iter__(self) -> Iterator[Tensor]:
        empty = True
        for part in self.parts:
            batch = check.images(part[0] if isinstance(part, tuple | list) and part else part)
            if batch.is_meta:
                raise check.fail_type("images", "a tensor with values", batch)
            yield batch
            empty = False
        if empty:
            raise ValueError(
                "`images` must hold at least one batch; got none: what is fitted in several steps reads them as often, "
                "so give a tensor, a list or a DataLoader, not a generator, which is read once"
            )


class Reaching:
    """What reaches a part of a module of each batch, for a part that is fitted.

    Args:
        answer: what calls the module.
        part: of the module; it is not called itself.
    """

    def __init__(self, answer: Callable[[Tensor], Any], part: nn.Module, images: Batches) -> None:
        self.answer, self.part, self.images = answer, part, images

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.images:
            yield reached(self.answer, [self.part], batch).given


class _Reached(Exception):
    def __init__(self, part: nn.Module, given: Tensor) -> None:
        super().__init__()
        self.part, self.given = part, given


def reached(answer: Callable[[Tensor], Any], parts: Sequence[nn.Module], images: Tensor) -> _Reached:
    """Which of some parts is called first as images are answered, and with what."""

    def stop(part: nn.Module, given: tuple[Tensor]) -> None:
        raise _Reached(part, given[0])

    hooks = [part.register_forward_pre_hook(stop) for part in parts]
    try:
        answer(images)
    except _Reached as found:
        return found
    finally:
        for hook in hooks:
            hook.remove()
    raise ValueError(f"the encoder does not call its {type(parts[0]).__name__}, which is not fitted: `fit` it before")


@torch.no_grad()
def fit_parts(answer: Callable[[Tensor], Any], module: nn.Module, images: Batches) -> None:
    """Fit all parts of a module that are not fitted yet, in the order in which ``answer`` calls them."""
    while waiting := [part for part in module.modules() if isinstance(part, Fitted) and not part.fitted]:
        part = reached(answer, waiting, images.first()).part
        part.fit(Reaching(answer, part, images))  # type: ignore[operator]


def fit(module: nn.Module, images: Tensor | Iterable[Any]) -> None:
    """Fit an encoder to images: all parts that are :class:`Fitted` and not fitted yet, each to what reaches it.

    A :class:`spyketorch.training.Trainer` calls it with the encoder of its network and the training images. What is
    fitted stays as it is: to fit a part to other images, call its own ``fit``.

    Args:
        module: an encoder, or any module that is called with images, whatever it holds.
        images: ``(N, C, H, W)``; or batches of them, alone or in tuples that begin with them: a list, a ``DataLoader``.
            Each part goes through them once, :class:`EqualizedLatency` twice, so a generator serves one part alone.

    Example:
        >>> from spyketorch.encoding import EqualizedLatency, OnOff, Whitening
        >>> encode = EqualizedLatency(torch.nn.Sequential(Whitening(), OnOff()), 15)
        >>> fit(encode, torch.rand(20, 3, 16, 16))
        >>> encode(torch.rand(5, 3, 16, 16)).shape
        torch.Size([5, 6, 16, 16])
    """
    fit_parts(check.module(module, "module"), module, Batches(images))


class FittedState(CheckedState):
    """A module with buffers that are None until it is fitted, or until they are loaded from a ``state_dict``."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        before = dict(self._buffers)
        for name, value in before.items():
            saved = state_dict.get(f"{prefix}{name}")
            if value is None and isinstance(saved, Tensor) and finite(saved):
                beside = next(itertools.chain(self.parameters(), self.buffers()), saved)
                self._buffers[name] = torch.zeros_like(saved, device=beside.device)
        super()._load_from_state_dict(state_dict, prefix, *others)


def unfitted(name: str, part: nn.Module) -> ValueError:
    """The sentence for a part that is asked before it knows what it takes from images."""
    return ValueError(
        f"`{name}` of this {type(part).__name__} must be known before images are encoded: `encoding.fit(encoder, "
        "images)`, with training images, fits all parts of an encoder, each to what reaches it; or load a saved state"
    )
