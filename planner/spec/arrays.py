"""Names for the numpy arrays that cross room borders; shapes are given where they are used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def distinct(values: FloatArray) -> FloatArray:
    """Returns values (n,) in ascending order, each once.

    As np.unique does, which for a moment's work loads all of np.ma.
    """
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if ordered.size else ordered
