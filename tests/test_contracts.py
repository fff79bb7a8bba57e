"""What holds for the whole package, whoever changes it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from napari_ssl_pretrain.spec import events as ev
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.config_errors import all_keys, field_at
from napari_ssl_pretrain.spec.yaml_io import parse_yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_ssl_pretrain"
QT = ("PyQt5", "PyQt6", "PySide2", "PySide6", "qtpy", "napari")


def modules(*parts):
    """Dotted names of the modules below parts of the package."""
    found = []
    for part in parts:
        place = SOURCE / part
        paths = [place.with_suffix(".py")] if not place.is_dir() else sorted(place.rglob("*.py"))
        for path in paths:
            names = path.relative_to(SOURCE.parent).with_suffix("").parts
            found.append(".".join(names[:-1] if names[-1] == "__init__" else names))
    return found


def loaded_by(names):
    """Return seconds of the import and the top-level modules loaded, in a fresh interpreter."""
    code = (
        "import sys, time, json, importlib; t = time.perf_counter();"
        f"[importlib.import_module(n) for n in {names!r}];"
        "seconds = time.perf_counter() - t;"
        "print(json.dumps([seconds, sorted({m.split('.')[0] for m in sys.modules})]))"
    )
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    seconds, found = json.loads(done.stdout.splitlines()[-1])
    return seconds, set(found)


def test_importing_the_package_is_quick_and_light():
    seconds, found = min(loaded_by(["napari_ssl_pretrain"]) for _ in range(3))
    assert seconds <= 0.5
    assert not found & {"torch", "numpy", "pydantic", *QT}


def test_only_the_engine_reaches_torch_and_only_the_gui_reaches_qt():
    names = modules("errors", "pretext", "spec", "data", "runner")
    assert len(names) > 20
    _, found = loaded_by(names)
    assert not found & {"torch", "accelerate", "monai", *QT}


def test_the_dock_never_imports_torch():
    names = modules("gui")
    if not names:
        pytest.skip("no GUI in this checkout")
    _, found = loaded_by(names)
    assert not found & {"torch", "accelerate", "monai", "dynamic_network_architectures"}


def test_import_contracts():
    words = [Path(sys.executable).with_name("lint-imports")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_sizes():
    words = [sys.executable, ROOT / ".ci" / "limits.py"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_manifest_is_valid_and_found_from_outside():
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_distribution("napari-ssl-pretrain")
    assert (manifest.name, manifest.display_name) == ("napari-ssl-pretrain", "SSL Pretrain")
    assert {"Pretrain", "Runs"} <= {
        widget.display_name for widget in manifest.contributions.widgets
    }
    for command in manifest.contributions.commands:
        module, _, function = command.python_name.partition(":")
        assert module.startswith("napari_ssl_pretrain.gui"), command
        assert function


def names_read():
    """Every attribute, and every key in brackets, that the sources read."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        if path.name in {"config.py", "biapy_yaml.py", "biapy_keys.py"}:
            continue  # they declare and fill the fields
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                found.add(node.slice.value)
    return found


def test_no_dead_knob():
    fields = {key.rsplit(".", 1)[-1] for key in all_keys(PretrainConfig)}
    assert fields - names_read() == set()


def test_every_field_is_described():
    for key in all_keys(PretrainConfig):
        field = field_at(key, PretrainConfig)
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            assert field.description, key
            assert field.description.endswith("."), key


words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12
)
names = st.text("abcXYZ019_- ", min_size=1, max_size=12).filter(
    lambda text: text.strip(". ") == text
)
paths = st.one_of(words, st.lists(words, min_size=1, max_size=3))
auto = st.just("auto")
SCHEMA = PretrainConfig.model_json_schema()


def number(key):
    """A strategy for the numbers that a key takes, from the model's own bounds."""
    group, _, name = key.rpartition(".")
    inside = SCHEMA["$defs"][f"{group.capitalize()}Config"] if group else SCHEMA
    options = inside["properties"][name].get("anyOf", [inside["properties"][name]])
    rules = next(o for o in options if o.get("type") in {"number", "integer"})
    if rules["type"] == "integer":
        high = rules.get("maximum", rules.get("exclusiveMaximum", 10**6 + 1) - 1)
        return st.integers(rules["minimum"], high)
    low = rules.get("minimum", rules.get("exclusiveMinimum"))
    high = rules.get("maximum", rules.get("exclusiveMaximum", 1e6))
    ends = {"exclude_min": "minimum" not in rules, "exclude_max": "maximum" not in rules}
    return st.floats(low, high, **ends)


def lengths(ndim, highest=4096):
    return st.lists(st.integers(1, highest), min_size=ndim, max_size=ndim)


def fields_of(ndim):
    """A strategy for every configuration key; a new key fails the test until it is here."""
    maybe = st.none()
    return {
        "name": names,
        "run_id": number("run_id"),
        "result_dir": words,
        "data.train": paths,
        "data.validation": maybe | paths,
        "data.validation_fraction": number("data.validation_fraction"),
        "data.test": maybe | paths,
        "data.axes": st.sampled_from(["auto", "YX", "YXC", "CYX", "TZCYX", "zyx"]),
        "data.ndim": st.just(ndim),
        "data.channels": st.just("all") | st.lists(st.integers(0, 9), min_size=1, max_size=3),
        "data.patch_size": auto | lengths(ndim),
        "data.normalization": st.sampled_from(
            ["zscore", "percentile", "minmax", "divide", "custom"]
        ),
        "pretext.task": st.sampled_from(["crappify", "masking"]),
        "pretext.noise": number("pretext.noise"),
        "pretext.resizing_factor": number("pretext.resizing_factor"),
        "pretext.fresh": st.booleans(),
        "pretext.ssl_source_dir": auto | words,
        "pretext.mask_ratio": number("pretext.mask_ratio"),
        "pretext.mask_type": st.sampled_from(["random", "grid", "block"]),
        "pretext.token_size": auto | st.integers(1, 64) | lengths(ndim, 64),
        "pretext.normalize_target": st.booleans(),
        "backbone.name": auto | words,
        "backbone.size": st.sampled_from(["tiny", "small", "base", "large"]),
        "backbone.features_per_stage": auto | st.lists(st.integers(1, 999), min_size=2, max_size=6),
        "backbone.norm": st.sampled_from(["auto", "instance", "none"]),
        "backbone.mlp_ratio": number("backbone.mlp_ratio"),
        "training.max_minutes": maybe | number("training.max_minutes"),
        "training.learning_rate": auto | number("training.learning_rate"),
        "training.weight_decay": auto | number("training.weight_decay"),
        "training.warmup_steps": auto | number("training.warmup_steps"),
        "training.gradient_clip": number("training.gradient_clip"),
        "training.loss": st.sampled_from(["auto", "l1", "mse", "charbonnier"]),
        "training.augment": st.booleans(),
        "training.patience": maybe | number("training.patience"),
        "training.seed": number("training.seed"),
        "training.load_checkpoint": maybe | words,
        "compute.device": st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
        "compute.precision": st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
        "compute.workers": auto | number("compute.workers"),
        "compute.memory_gb": auto | number("compute.memory_gb"),
    }


COUNTS = {
    "backbone": ["blocks_per_stage", "embed_dim", "depth", "num_heads", "decoder_embed_dim",
                 "decoder_depth", "decoder_num_heads"],
    "training": ["epochs", "steps_per_epoch", "batch_size"],
}  # fmt: skip


@st.composite
def configurations(draw):
    """Nested fields with some keys set and others left out."""
    strategies = fields_of(draw(st.sampled_from([2, 3])))
    counts = [f"{group}.{key}" for group, keys in COUNTS.items() for key in keys]
    strategies |= {key: auto | number(key) for key in counts}
    needed = {"data.train", "pretext.task"}
    chosen = needed | draw(st.sets(st.sampled_from(sorted(strategies))))
    tree: dict = {}
    for key in sorted(chosen):
        group, _, last = key.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[last] = draw(strategies[key])
    return tree


def test_every_key_has_a_strategy():
    groups = {"data", "pretext", "backbone", "training", "compute"}
    counts = {f"{group}.{key}" for group, keys in COUNTS.items() for key in keys}
    assert set(fields_of(2)) | counts == set(all_keys(PretrainConfig)) - groups


@given(configurations())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_configuration_survives_yaml(fields):
    config = PretrainConfig.from_dict(fields)
    again = PretrainConfig.from_dict(parse_yaml(config.to_yaml(), "text"))
    assert again == config
    assert PretrainConfig.from_dict(config.to_dict()) == config


def strategy_for(annotation):
    """A strategy for a field of an event: JSON has no NaN and no infinity; counts are bounded."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is int:
        return st.integers(-ev.LARGEST_COUNT, ev.LARGEST_COUNT)
    if annotation is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if origin in {typing.Union, types.UnionType}:
        return st.one_of(*map(strategy_for, inside))
    if origin is dict:
        return st.dictionaries(strategy_for(inside[0]), strategy_for(inside[1]), max_size=3)
    if origin is tuple:
        return st.lists(strategy_for(inside[0]), max_size=3).map(tuple)
    return st.from_type(annotation)


EVENTS = typing.get_args(ev.AnyEvent)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_survives_a_line(kind):
    fields = {name: strategy_for(field.annotation) for name, field in kind.model_fields.items()}

    @given(st.builds(kind, **fields))
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    def survives(event):
        line = event.to_line()
        assert line.endswith("\n")
        assert line.count("\n") == 1
        assert ev.parse_event(line) == event

    survives()


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_a_torn_or_foreign_line_is_no_event(line):
    assert ev.parse_event(line) is None


def test_event_kinds_are_unlike():
    kinds = [kind.model_fields["kind"].default for kind in EVENTS]
    assert len(set(kinds)) == len(kinds)
