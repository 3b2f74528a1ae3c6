"""llmrec: recommendations from text encoders and collaborative filtering, on the command line and from Python.

    import llmrec_cli as llmrec

    prepared = llmrec.prepare(clicks, items=products)
    lists = llmrec.finetune(prepared, head="ease").recommend(k=10)

docs/python.md describes these functions. They are loaded at first use, so that importing the package stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from llmrec_cli.api import Evaluation, PreparedData, Recommender, finetune, load, prepare
    from llmrec_cli.errors import (
        ArtifactError,
        ConfigError,
        DataError,
        DivergedError,
        GateRefused,
        LlmrecError,
        LockedError,
        ResourceError,
    )

__all__ = ["ArtifactError", "ConfigError", "DataError", "DivergedError", "Evaluation", "GateRefused", "LlmrecError",
           "LockedError", "PreparedData", "Recommender", "ResourceError", "finetune", "load", "prepare"]
_API = ("Evaluation", "PreparedData", "Recommender", "finetune", "load", "prepare")


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'llmrec_cli' has no attribute '{name}'")
    value = getattr(import_module("llmrec_cli.api" if name in _API else "llmrec_cli.errors"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
