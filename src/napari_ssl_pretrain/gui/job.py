"""From the form to a job: layers become files, and the configuration names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.gui.layer_source import LayerSource, describe, layer_file, users_layers
from napari_ssl_pretrain.gui.paths_editor import LAYER
from napari_ssl_pretrain.spec.config import PretrainConfig

if TYPE_CHECKING:
    from napari.components import ViewerModel

IMAGE_FIELDS = ("train", "validation", "test")


def open_layers(viewer: ViewerModel) -> list[tuple[str, str]]:
    """Return the user's open image layers as pairs of name and file."""
    return [(source.name, source.file) for source in map(describe, users_layers(viewer))]


def make_job(
    fields: dict[str, Any], viewer: ViewerModel
) -> tuple[PretrainConfig, dict[Path, LayerSource]]:
    """Return the configuration, and the layers to write before it can be used.

    Parameters
    ----------
    fields
        What the form holds.
    viewer
        The viewer with the layers.

    Raises
    ------
    ConfigError
        A field is wrong, or names a layer that is not open.
    """
    sources: dict[Path, LayerSource] = {}
    data = dict(fields["data"])
    folder = Path(fields["result_dir"] or ".").expanduser().absolute()
    for key in IMAGE_FIELDS:
        if data.get(key):
            data[key] = tuple(
                _entry(f"data.{key}", entry, viewer, (folder, str(fields["name"])), sources)
                for entry in data[key]
            )
    if not str(fields["result_dir"]).strip():
        raise ConfigError("result_dir", "must name a folder", remedy="Choose where results go.")
    return PretrainConfig.from_dict(fields | {"data": data}), sources


def _entry(
    field: str,
    entry: str,
    viewer: ViewerModel,
    place: tuple[Path, str],
    sources: dict[Path, LayerSource],
) -> str:
    """Return the path that an entry stands for; a layer is noted down to be written there.

    Raises
    ------
    ConfigError
        The layer is not open.
    """
    if not entry.startswith(LAYER):
        return entry
    name = entry.removeprefix(LAYER)
    layer = next((x for x in users_layers(viewer) if x.name == name), None)
    if layer is None:
        raise ConfigError(
            field, "is no open layer", value=name, remedy="Choose an open layer, or a folder."
        )
    source = describe(layer)
    if source.file:
        return source.file
    path = layer_file(*place, name)
    sources[path] = source
    return str(path)
