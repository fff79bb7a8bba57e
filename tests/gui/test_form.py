"""The form: every field there, named by its path, and nothing lost between form and model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QLineEdit, QWidget

from napari_ssl_pretrain.errors import ConfigError, DataError
from napari_ssl_pretrain.gui.editors import format_value, parse_value
from napari_ssl_pretrain.gui.form import MAE, UNET, ConfigForm
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.config_errors import all_keys, field_at

GROUPS = {"data", "pretext", "backbone", "training", "compute"}


@pytest.fixture
def form(qtbot: Any) -> ConfigForm:
    made = ConfigForm(lambda: [("cells", ""), ("stored", "/images/stored.tif")])
    qtbot.addWidget(made)
    made.resize(350, 700)
    made.show()
    qtbot.waitExposed(made)
    return made


def test_every_field_of_the_model_has_an_editor_of_its_name(form: ConfigForm) -> None:
    for path in all_keys(PretrainConfig):
        if path in GROUPS:
            continue
        assert path in form.rows
        editor = form.findChild(QWidget, path)
        assert editor is not None, path
        assert field_at(path, PretrainConfig).description.split(": ")[-1][1:8] in editor.toolTip()


FIELDS = {
    "name": st.sampled_from(["job", "my job", "ünï"]),
    "run_id": st.integers(1, 99),
    "data.train": st.lists(st.sampled_from(["/a", "/b/*.tif", "c d"]), min_size=1, max_size=3),
    "data.validation": st.sampled_from([None, ("/v",)]),
    "data.validation_fraction": st.floats(0, 0.99),
    "data.axes": st.sampled_from(["auto", "ZYX", "CYX"]),
    "data.ndim": st.sampled_from(["auto", 2]),
    "data.channels": st.sampled_from(["all", (0,), (0, 2)]),
    "data.patch_size": st.sampled_from(["auto", (64, 32)]),
    "data.normalization": st.sampled_from(["zscore", "custom"]),
    "pretext.task": st.sampled_from(["crappify", "masking"]),
    "pretext.noise": st.floats(0, 1),
    "pretext.resizing_factor": st.floats(1, 64),
    "pretext.fresh": st.booleans(),
    "pretext.mask_ratio": st.floats(0.001, 0.999),
    "pretext.token_size": st.sampled_from(["auto", 8, (8, 4)]),
    "backbone.size": st.sampled_from(["tiny", "large"]),
    "backbone.features_per_stage": st.sampled_from(["auto", (8, 16)]),
    "training.epochs": st.sampled_from(["auto", 3]),
    "training.max_minutes": st.one_of(st.none(), st.floats(0.1, 1e4)),
    "training.learning_rate": st.one_of(st.just("auto"), st.floats(1e-9, 1)),
    "training.gradient_clip": st.floats(0, 10),
    "training.patience": st.one_of(st.none(), st.integers(1, 9)),
    "training.seed": st.integers(0, 2**63 - 1),
    "training.load_checkpoint": st.sampled_from([None, "best", "/a/b.pth"]),
    "compute.device": st.sampled_from(["auto", "cpu", "cuda:1"]),
    "compute.workers": st.sampled_from(["auto", 0, 3]),
    "compute.memory_gb": st.one_of(st.just("auto"), st.floats(0.1, 100)),
}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.fixed_dictionaries({}, optional=FIELDS))
def test_what_is_set_is_what_is_got(form: ConfigForm, values: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"data": {"train": "x"}, "pretext": {"task": "masking"}}
    for path, value in values.items():
        group, _, key = path.rpartition(".")
        (fields.setdefault(group, {}) if group else fields)[key] = value
    config = PretrainConfig.from_dict(fields)
    form.setValue(config)
    assert form.value() == config


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**63 - 512, 2**63 - 1])
def test_large_seeds_are_kept_to_the_last_digit(form: ConfigForm, seed: int) -> None:
    form.set("training.seed", seed)
    assert form.get("training.seed") == seed


@pytest.mark.parametrize("value", [3, 1e-4, (64,), (2, 8, 8), "auto", "many", 0.1 + 0.2])
def test_text_of_a_value_reads_back(value: Any) -> None:
    assert parse_value(format_value(value)) == value


@pytest.mark.parametrize(("text", "value"), [("[64, 64]", (64, 64)), ("64 x", "64 x"), ("8", 8)])
def test_values_are_read_as_people_write_them(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_only_what_matters_for_the_task_is_shown(form: ConfigForm) -> None:
    form.set("pretext.task", "crappify")
    assert form.rows["pretext.noise"].isVisible()
    assert not form.rows["pretext.mask_ratio"].isVisible()
    form.set("pretext.task", "masking")
    assert not form.rows["pretext.noise"].isVisible()
    assert form.rows["pretext.mask_ratio"].isVisible()


def test_networks_are_those_that_can_learn_the_task(form: ConfigForm) -> None:
    form.set("pretext.task", "masking")
    form.set("backbone.name", "mae_vit")
    form.set("pretext.task", "crappify")
    assert form.get("backbone.name") == "auto"


def test_who_a_field_is_for_is_said_at_the_head_of_its_description() -> None:
    for path in all_keys(PretrainConfig):
        head, colon, _ = (field_at(path, PretrainConfig).description or "").partition(": ")
        if colon and path.startswith(("pretext.", "backbone.")):
            assert head in {"crappify", "masking", UNET, MAE}, path
    own = {p for p in all_keys(PretrainConfig) if p.startswith("pretext.")} - {"pretext.task"}
    form_rows = {p: field_at(p, PretrainConfig).description for p in own}
    assert all(d.startswith(("crappify: ", "masking: ")) for d in form_rows.values())


def test_rare_fields_are_folded_until_an_error_concerns_them(form: ConfigForm, qtbot: Any) -> None:
    form.set("data.train", ("x",))
    assert form.rows["training.learning_rate"].visibleRegion().isEmpty()
    form.set("training.learning_rate", "fast")
    with pytest.raises(ConfigError) as caught:
        form.value()
    assert form.show_error(caught.value)
    row = form.rows["training.learning_rate"]
    assert form._folds["training"].isExpanded()
    assert "must be 'auto', or a number" in row.error.text()
    qtbot.waitUntil(lambda: not row.visibleRegion().isEmpty(), timeout=20_000)


def test_an_error_goes_when_the_field_is_changed(form: ConfigForm) -> None:
    form.show_error(ConfigError("name", "must be a plain folder name", value="a/b"))
    assert form.rows["name"].error.isVisible()
    form.set("name", "job")
    assert not form.rows["name"].error.isVisible()


def test_an_error_about_a_file_is_shown_where_the_file_was_named(form: ConfigForm) -> None:
    form.set("data.test", ("/data/test",))
    assert form.field_of(DataError("/data/test/a.tif", "is empty (0 bytes)")) == "data.test"
    assert form.field_of(DataError("/elsewhere/a.tif", "is empty (0 bytes)")) is None


def test_a_layer_is_chosen_by_its_file_or_by_its_name(form: ConfigForm) -> None:
    editor: Any = form.rows["data.train"].editor
    editor.fill_menu()
    texts = [action.text() for action in editor.menu.actions()]
    assert {"Layer: cells", "Layer: stored"} <= set(texts)
    for action in editor.menu.actions():
        if action.text() == "Layer: stored":
            action.trigger()
    assert form.get("data.train") == ("/images/stored.tif",)
    editor.take_layer("cells", "")
    assert form.get("data.train") == ("layer: cells",)


def test_paths_are_typed_as_well(form: ConfigForm, qtbot: Any) -> None:
    line = form.findChild(QLineEdit, "data.train")
    qtbot.keyClicks(line, "/a; /b/*.tif")
    assert form.get("data.train") == ("/a", "/b/*.tif")


def test_the_wheel_scrolls_the_form_and_leaves_numbers_alone(form: ConfigForm) -> None:
    box = form.rows["pretext.task"].editor.native
    before = form.get("pretext.task")
    box.clearFocus()
    place = QPointF(5, 5)
    event = QWheelEvent(
        place,
        place,
        QPoint(0, -120),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(box, event)
    assert form.get("pretext.task") == before


def test_the_form_fits_a_narrow_dock(form: ConfigForm, qtbot: Any) -> None:
    form.resize(350, 600)
    qtbot.wait(20)
    inside = form.widget()
    assert inside is not None
    assert inside.minimumSizeHint().width() <= 350


def test_what_does_not_matter_is_left_out_of_a_job(form: ConfigForm) -> None:
    form.set("data.train", ("x",))
    form.set("pretext.mask_ratio", 0.5)
    form.set("pretext.task", "crappify")
    assert "mask_ratio" not in form.fields(only_relevant=True)["pretext"]
    assert form.value().pretext.mask_ratio == 0.5, "and comes back with the task"
