"""Representative and evaluation data: whatever a user has, as uniform arrays that a model takes.

Rules this package keeps:

* No pickle is ever opened, and nothing is allocated before its declared size was compared with a limit.
* Values are finite, shapes are the model's, numbers of samples agree; every error names the file or array, what was
  expected and what was there.
* What comes out is uniform: real values in the input's own kind of number, `[n, *shape]` with the model's whole shape,
  so that `inputs[name][i]` is exactly what the model takes.
"""

from edgeship.dataset.loading import check_file, load, read
from edgeship.dataset.parting import MIN_SAMPLES, split
from edgeship.dataset.samples import Dataset
from edgeship.dataset.suspicion import check_scale, doubts, doubts_alone

__all__ = ["MIN_SAMPLES", "Dataset", "check_file", "check_scale", "doubts", "doubts_alone", "load", "read", "split"]
