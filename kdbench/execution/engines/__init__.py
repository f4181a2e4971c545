"""Engines: where a study's runs are trained. An engine is one file here and one line below.

Other packages add theirs through the entry-point group `kdbench.engines`.
"""

from importlib import import_module

from kdbench.execution.engines.protocol import Engine, EngineFactory, EngineOptions, WorkerSettings
from kdbench.registry import Registry


def _imported_when_used(module: str, name: str) -> EngineFactory:
    """An engine of this package whose module (and so torch) is imported when it is made."""

    def make(settings: WorkerSettings, options: EngineOptions) -> Engine:
        engine: Engine = getattr(import_module(f"{__name__}.{module}"), name)(settings, options)
        return engine

    return make


ENGINES: Registry[EngineFactory] = Registry(
    "engine",
    "kdbench.engines",
    {
        "local": _imported_when_used("local", "LocalEngine"),
        "inline": _imported_when_used("inline", "InlineEngine"),
        "ray": _imported_when_used("ray_engine", "RayEngine"),
    },
)
