"""What a model of photographs keeps beside its weights, and what a training in progress belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lymphoscope._version import __version__
from lymphoscope.cohort.bags import FloatArray, IntArray
from lymphoscope.models.clinical_inputs import ClinicalInputs
from lymphoscope.models.patient_calibration import PatientCalibration
from lymphoscope.training.prediction import CellData


@dataclass(frozen=True)
class FittedParts:
    """What an `ImageClassifier` learns beside its weights."""

    threshold: float
    clinical: ClinicalInputs
    calibration: PatientCalibration
    mean: FloatArray
    deviation: FloatArray
    weights_sha256: str


def training_key(parameters: Mapping[str, Any], data: CellData, labels: IntArray, trained: IntArray) -> str:
    """What a kept training belongs to: the program, the parameters, the patients, and some of the cells."""
    digest = hashlib.sha256(json.dumps({"version": __version__, **parameters}, sort_keys=True).encode())
    for array in (labels, trained, data.starts, data.counts, data.clinical.numpy()):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(data.cells[:: max(1, len(data.cells) // 64)].contiguous().numpy().tobytes())
    return digest.hexdigest()
