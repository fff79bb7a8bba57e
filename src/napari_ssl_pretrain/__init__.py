"""Self-supervised pretraining for microscopy: a napari plugin and its engine.

The public names load lazily, so that importing the package (as napari does for
every plugin) costs no torch and no Qt.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "PretrainConfig": "spec.config",
    "RunDir": "spec.run_dir",
    "pretrain": "engine.run",
    "load_backbone": "engine.load",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - every name is a string


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
