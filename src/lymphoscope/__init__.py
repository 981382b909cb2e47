"""Blood-cell photographs and a small clinical table in, an honest answer per patient out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lymphoscope._version import __version__

if TYPE_CHECKING:
    from lymphoscope.cohort.bags import Bags
    from lymphoscope.cohort.read import ReadOptions, read_cohort
    from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize
    from lymphoscope.encoders.encoder import Encoder, create_encoder
    from lymphoscope.evaluation.evaluator import compare, evaluate
    from lymphoscope.evaluation.protocol import Protocol
    from lymphoscope.models.bundle import load_bundle
    from lymphoscope.models.registry import create_model, list_models
    from lymphoscope.pipeline.preparation import prepare

__all__ = [
    "Bags",
    "Encoder",
    "Protocol",
    "ReadOptions",
    "SyntheticPlan",
    "__version__",
    "compare",
    "create_encoder",
    "create_model",
    "evaluate",
    "list_models",
    "load_bundle",
    "prepare",
    "read_cohort",
    "synthesize",
]

# Names are imported when they are first used, so that `import lymphoscope` takes no time.
_HOME = {
    "Bags": "cohort.bags",
    "Encoder": "encoders.encoder",
    "Protocol": "evaluation.protocol",
    "ReadOptions": "cohort.read",
    "SyntheticPlan": "cohort.synthetic",
    "compare": "evaluation.evaluator",
    "create_encoder": "encoders.encoder",
    "create_model": "models.registry",
    "evaluate": "evaluation.evaluator",
    "list_models": "models.registry",
    "load_bundle": "models.bundle",
    "prepare": "pipeline.preparation",
    "read_cohort": "cohort.read",
    "synthesize": "cohort.synthetic",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lymphoscope' has no attribute {name!r}")
    return getattr(import_module(f"lymphoscope.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
