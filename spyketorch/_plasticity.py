"""What learning rules are made of where they run compiled: one synapse at a time, and what a layer made of a sample."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Synapse(NamedTuple):
    """One synapse of a winner: the numbers of :class:`spyketorch.learning.Synapses`, for a rule's compiled twin.

    Attributes:
        weight: before the update.
        causal: whether the input fired no later than the winner.
        pre_time: first-spike time of the input in time steps, T where it is silent.
        post_time: that of the winner.
        ltp, ltd: learning rates of the winner's feature.
        lower_bound, upper_bound: of the weights.
        feature: of the winner.
        channel, row, column: of the synapse in the weight of that feature.
        pre_potential: of the input when the winner fired, as a share of its threshold, 0..1; 1 where it is causal.
    """

    weight: float
    causal: bool
    pre_time: int
    post_time: int
    ltp: float
    ltd: float
    lower_bound: float
    upper_bound: float
    feature: int
    channel: int
    row: int
    column: int
    pre_potential: float


class Inputs(NamedTuple):
    """What a layer hears, of a chunk of samples or of one: tensors, or arrays with the features last in the loops.

    Attributes:
        times: first-spike times.
        potentials: beside them, what each input that stayed silent reached by the end, as a share of its threshold;
            None, in the loops an empty array, where nobody told.
    """

    times: Any
    potentials: Any

    def of_some(self, samples: slice) -> "Inputs":
        """Those of some of the samples."""
        return Inputs(self.times[samples], None if self.potentials is None else self.potentials[samples])


class Response(NamedTuple):
    """What a layer made of one sample, by which its thresholds adapt.

    Attributes:
        winners: int64 ``(k, 3)``, (feature, row, column) of each that exists; none where nobody answered.
        post_times: int64 ``(k,)``, the time steps at which they fired.
        heard: where nobody answered, the largest share of what a neuron sees that fired; 1 where somebody did.
        time_steps: T.

    They are numpy arrays and numbers. Beside tensors (:class:`ThresholdsInTorch`) the first three are tensors where the
    layer is, and as nobody has looked how many winners exist, there may be rows of -1 among them, whose ``post_times``
    say nothing.
    """

    winners: Any
    post_times: Any
    heard: Any
    time_steps: int


@runtime_checkable
class Twin(Protocol):
    """A learning rule as the compiled loops run it: a ``NamedTuple`` of numbers and numpy arrays.

    ``change`` is plain Python that numba compiles: numbers in, the change of one weight out, before it is clamped.
    """

    def change(self, synapse: Synapse) -> float: ...


class Plasticity(NamedTuple):
    """What a compiled rule learns by: rates (2, features, 2) after reward and punishment, bounds of the weights."""

    rates: Any
    bounds: tuple[float, float]
    twin: Twin
    thresholds: "Thresholds | None"


@runtime_checkable
class Thresholds(Protocol):
    """How the thresholds of a layer follow its answers: a ``NamedTuple`` of numbers and numpy arrays.

    ``adapt`` writes into ``threshold``, the numpy array ``(features,)`` of the layer, after each sample. It is plain
    Python that numba compiles, and runs as it is where numba does not. Where ``excess`` is True, winners are ranked by
    how far they are above their threshold instead of by their potential. A method ``check()``, where there is one,
    raises where settings cannot be; rules and lessons call it when they take the thresholds.
    """

    @property
    def excess(self) -> bool: ...

    def adapt(self, threshold: Any, response: Response) -> None: ...


@runtime_checkable
class ThresholdsInTorch(Thresholds, Protocol):
    """Thresholds that a device moves by itself, such as :class:`spyketorch.learning.TargetTime`.

    ``adapt_in_torch`` does what ``adapt`` does where learning runs in torch: it writes into ``threshold``, the tensor
    ``(features,)`` of the layer, by operations on tensors alone. Without it ``adapt`` runs there, too, and a GPU is
    waited for after each sample. A subclass with an ``adapt`` of its own needs its own ``adapt_in_torch``, or has none.
    """

    def adapt_in_torch(self, threshold: Tensor, response: Response) -> None: ...


class Supervision(NamedTuple):
    """How the neurons of a read-out are taught when to fire: the constants of supervised STDP.

    Attributes:
        ltp, ltd: learning rates of inputs that helped a neuron to fire, and of the others.
        gap: between the wanted time of the right class and that of the others, as a share of all time steps.
        non_target: neurons of each class, the last of them, that are taught to fire late for their own class.
        lift: how much a neuron that wins for its own class raises its threshold while learning; 0 for none.
        covariance: whether all inputs are depressed, each by what it adds on average, or those alone that did not help.
        per_class: neurons of each class.
        lower_bound, upper_bound: of the weights.
    """

    ltp: float
    ltd: float
    gap: float
    non_target: int
    lift: float
    covariance: bool
    per_class: int
    lower_bound: float
    upper_bound: float
