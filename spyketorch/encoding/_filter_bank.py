"""From sound to the picture that an ear makes of it."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check


class FilterBank(nn.Module):
    r"""Sound to a spectrogram: how loud it is in each band of frequencies, frame after frame, on a scale of 0..1.

    Bands are triangles, evenly spaced in mel, the scale on which steps of pitch sound alike. Loudness is logarithmic,
    and counted from the loudest band and frame of the recording, so that a faint recording gives the same picture as a
    strong one:

    .. math:: s = \max(0, 1 + \frac{L - L_\text{loudest}}{\text{span}}), \qquad
        L = 10 \log_{10} \sum_f w_f |X_f|^2

    with X the short-time Fourier transform under a Hann window. A spectrogram is a map of one channel, rows of which
    are bands, the lowest first; it goes on as images do, through filters and encoders.

    Args:
        sample_rate: samples a second.
        bands: how many.
        window, hop: seconds that a frame hears, and from one frame to the next.
        lowest, highest: of the frequencies, in Hz; None for half the sample rate.
        span: decibels below the loudest that count as silence, 0.

    Shape:
        Sounds around 0, maps of one row, ``(1, 1, L)`` or ``(N, 1, 1, L)``, of any real type and scale, to ``(1, bands,
        frames)`` or ``(N, 1, bands, frames)``, with L // (hop in samples) + 1 frames. Nothing is heard before or after
        a sound; a silent one is 0 everywhere.

    Raises:
        ValueError: sounds of another shape, or with NaN; so many bands that some hear no frequency of the transform.

    Example:
        >>> import math
        >>> tone = torch.sin(2 * math.pi * 440 * torch.arange(8000) / 8000)  # a second
        >>> spectrogram = FilterBank(8000)(tone.view(1, 1, -1))
        >>> spectrogram.shape, int(spectrogram[0, :, 50].argmax())
        (torch.Size([1, 40, 101]), 8)

    Reference:
        Davis, Mermelstein. *Comparison of parametric representations for monosyllabic word recognition in continuously
        spoken sentences.* IEEE Transactions on Acoustics, Speech, and Signal Processing 28:357-366, 1980.
    """

    weight: Tensor
    envelope: Tensor

    def __init__(
        self,
        sample_rate: int,
        bands: int = 40,
        *,
        window: float = 0.025,
        hop: float = 0.01,
        lowest: float = 60.0,
        highest: float | None = None,
        span: float = 60.0,
    ) -> None:
        super().__init__()
        self.sample_rate, self.bands = check.integer(sample_rate, "sample_rate", 1), check.integer(bands, "bands", 1)
        self.window, self.hop = self._samples(window, "window", 2), self._samples(hop, "hop", 1)
        top = sample_rate / 2 if highest is None else check.number(highest, "highest")
        self.lowest, self.highest = check.number(lowest, "lowest"), top
        if not 0 <= self.lowest < self.highest <= sample_rate / 2:
            accepted = f"above `lowest`, {self.lowest:g} Hz, and at most half the sample rate, {sample_rate / 2:g} Hz"
            raise check.fail("highest", accepted, highest)
        self.span = check.number(span, "span")
        if self.span <= 0:
            raise check.fail("span", "above 0, decibels", span)
        self.register_buffer("weight", self._triangles(), persistent=False)
        self.register_buffer("envelope", torch.hann_window(self.window), persistent=False)

    def _samples(self, seconds: Any, name: str, least: int) -> int:
        samples = round(check.number(seconds, name) * self.sample_rate)
        if samples < least:
            raise check.fail(name, f"at least {least} samples long, {least / self.sample_rate:g} seconds", seconds)
        return samples

    @property
    def _length(self) -> int:
        """Of the Fourier transform: the next power of 2."""
        return int(2 ** math.ceil(math.log2(self.window)))

    def _triangles(self) -> Tensor:
        """How much each band hears of each frequency, ``(bands, frequencies)``."""
        low, high = (_mel(frequency) for frequency in (self.lowest, self.highest))
        exact: Any = {"dtype": torch.float64, "device": "cpu"}
        corners = 700 * (torch.exp(torch.linspace(low, high, self.bands + 2, **exact)) - 1)
        frequencies = torch.linspace(0, self.sample_rate / 2, self._length // 2 + 1, **exact)
        below, centre, above = (corners[i : i + self.bands, None] for i in range(3))
        rising, falling = (frequencies - below) / (centre - below), (above - frequencies) / (above - centre)
        weight = torch.minimum(rising, falling).clamp(min=0)
        deaf = int((weight.amax(1) == 0).sum())
        if deaf:
            way = f"{deaf} of them hear no frequency; take fewer, or a longer `window`"
            raise check.fail("bands", f"fewer, for a window of {self.window} samples", self.bands, way)
        return weight.float().to(torch.get_default_device())

    def forward(self, input: Tensor) -> Tensor:
        name = "sounds`/`input"
        sounds = check.floating(check.image(input, name), name)
        if sounds.shape[-3:-1] != (1, 1):
            raise check.fail(name, "of one channel and one row, (1, 1, L) or (N, 1, 1, L)", input, _regrouped(sounds))
        check.finite(sounds, name)
        check.same_device(sounds, name, self.weight, "weight")
        heard = [self._heard(sound) for sound in sounds.detach().flatten(0, -2)]  # each as if it were alone
        return torch.stack(heard).view(*sounds.shape[:-2], self.bands, -1)

    def _heard(self, sound: Tensor) -> Tensor:
        """``(bands, frames)`` of samples ``(L,)``."""
        loudest = sound.abs().amax()
        even = torch.where(loudest > 0, sound / loudest, 0)  # squares of faint ones would be lost
        spectrum = torch.stft(
            even,
            self._length,
            self.hop,
            self.window,
            self.envelope.to(even.dtype),
            pad_mode="constant",
            return_complex=True,
        )
        energy = self.weight.to(even.dtype) @ (spectrum.real.square() + spectrum.imag.square())
        level = 10 * torch.log10(energy / energy.amax())
        return torch.where(energy > 0, (1 + level / self.span).clamp(min=0), 0)

    def extra_repr(self) -> str:
        band = f"bands={self.bands}, lowest={self.lowest:g}, highest={self.highest:g}, span={self.span:g}"
        return f"{self.sample_rate}, {band}, window={self.window} samples, hop={self.hop} samples"


def _mel(frequency: float) -> float:
    """In units of no name: 2595 / ln(10) of them are as many mel."""
    return math.log1p(frequency / 700)


def _regrouped(sounds: Tensor) -> str:
    """How sounds of another shape may become those of one channel and one row, as their shape suggests."""
    *_, channels, rows, samples = sounds.shape
    if samples == 1:
        count, length = sounds.numel() // max(channels, rows), max(channels, rows)
        return f"`sounds.view({count}, 1, 1, {length})` is a batch of {count} of {length} samples"
    for axis, sizes in ((-3, (2, 1)), (-2, (1, 2))):
        if sizes == (channels, rows):
            return f"`sounds.float().mean({axis}, keepdim=True)` makes one channel of two"
    return ""
