"""Layer-by-layer training: each layer learns from the stored first spikes of the finished ones below it.

A :class:`Trainer` takes a :class:`spyketorch.models.Network` and one lesson per layer: :class:`Unsupervised` (STDP) or
:class:`Reinforced` (R-STDP), and perhaps a :class:`Readout` after them. Images are learned one after the other, each
with the weights that the one before left; where a run is stopped and resumed does not change a bit of the result.
"""

from spyketorch._processes import Processes as Processes
from spyketorch.training._calibration import Calibration as Calibration
from spyketorch.training._calibration import calibrate as calibrate
from spyketorch.training._diagnosis import Course as Course
from spyketorch.training._diagnosis import Report as Report
from spyketorch.training._diagnosis import TrainingWarning as TrainingWarning
from spyketorch.training._evaluation import Evaluation as Evaluation
from spyketorch.training._evaluation import evaluate as evaluate
from spyketorch.training._lesson import FinalLesson as FinalLesson
from spyketorch.training._lesson import Following as Following
from spyketorch.training._lesson import Learned as Learned
from spyketorch.training._lesson import Lesson as Lesson
from spyketorch.training._lesson import Period as Period
from spyketorch.training._moment import Moment as Moment
from spyketorch.training._readout import Readout as Readout
from spyketorch.training._reinforced import Reinforced as Reinforced
from spyketorch.training._schedules import Adaptive as Adaptive
from spyketorch.training._schedules import Combined as Combined
from spyketorch.training._schedules import Constant as Constant
from spyketorch.training._schedules import Decaying as Decaying
from spyketorch.training._schedules import Doubling as Doubling
from spyketorch.training._schedules import Fading as Fading
from spyketorch.training._schedules import Progress as Progress
from spyketorch.training._schedules import Schedule as Schedule
from spyketorch.training._supervised import Supervised as Supervised
from spyketorch.training._trainer import Trainer as Trainer
from spyketorch.training._unsupervised import Unsupervised as Unsupervised
