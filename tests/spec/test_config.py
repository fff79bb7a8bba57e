"""Configurations: every wrong value is named with its rule and remedy; YAML has no traps."""

import os
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from napari_ssl_pretrain.errors import ConfigError
from napari_ssl_pretrain.spec.config import PretrainConfig
from napari_ssl_pretrain.spec.config_errors import all_keys, field_at
from napari_ssl_pretrain.spec.yaml_io import MAX_BYTES, dump_yaml, load_yaml, parse_yaml

LEAST = {"data": {"train": "images"}, "pretext": {"task": "crappify"}}


def with_value(path, value):
    fields = {name: dict(group) for name, group in LEAST.items()}
    *groups, key = path.split(".")
    place = fields
    for group in groups:
        place = place.setdefault(group, {})
    place[key] = value
    return fields


# field, value, what the text says after "<field>: "
WRONG = [
    ("pretext.noise", 3, "3: must be at most 1.0. "),
    ("pretext.noise", -0.1, "-0.1: must be at least 0.0. "),
    ("pretext.noise", "loud", "loud: must be a number. "),
    ("pretext.noise", float("nan"), "nan: must be "),
    ("pretext.resizing_factor", 0.5, "0.5: must be at least 1.0. "),
    ("pretext.mask_ratio", 1.0, "1.0: must be less than 1.0. "),
    ("pretext.mask_ratio", 0, "0: must be greater than 0.0. "),
    ("pretext.task", "colorize", "colorize: must be 'crappify' or 'masking'. "),
    ("pretext.mask_type", "stripes", "stripes: must be 'random', 'grid' or 'block'. "),
    ("pretext.token_size", 0, "0: must be "),
    ("pretext.fresh", "maybe", "maybe: must be true or false. "),
    ("training.epochs", "many", "many: must be 'auto', or a whole number. "),
    ("training.epochs", 2.5, "2.5: must be "),
    ("training.epochs", 0, "0: must be "),
    ("training.batch_size", 0, "0: must be "),
    ("training.max_minutes", 0, "0: must be greater than 0.0. "),
    ("training.max_minutes", float("inf"), "inf: must be a finite number. "),
    ("backbone.mlp_ratio", float("inf"), "inf: must be at most 64.0. "),
    ("training.seed", -1, "-1: must be at least 0. "),
    ("training.patience", 0, "0: must be at least 1. "),
    ("training.loss", "huber", "huber: must be "),
    ("training.learning_rate", -1, "-1: must be "),
    ("data.patch_size", [0, 8], "[0, 8]: must be "),
    ("data.patch_size", 3.5, "3.5: must be "),
    ("data.axes", "ZZYX", "ZZYX: must name Y and X once each"),
    ("data.axes", "ZC", "ZC: must name Y and X once each"),
    ("data.axes", "AYX", "AYX: must name Y and X once each"),
    ("data.ndim", 4, "4: must be "),
    ("data.channels", [], "[]: must be "),
    ("data.channels", [-1], "[-1]: must be "),
    ("data.train", [], "[]: needs at least 1 entries"),
    ("data.normalization", "log", "log: must be "),
    ("data.validation_fraction", 1, "1: must be less than 1.0. "),
    ("backbone.size", "huge", "huge: must be 'tiny', 'small', 'base' or 'large'. "),
    ("backbone.features_per_stage", [8], "[8]: must be "),
    ("compute.device", "tpu", "tpu: is none of the known words. "),
    ("compute.precision", "fp8", "fp8: must be "),
    ("name", "a/b", "a/b: must be a plain folder name"),
    ("name", "..", "..: must be a plain folder name"),
    ("name", "", "must be a plain folder name"),
    ("run_id", 0, "0: must be at least 1. "),
    ("data", "images", "images: must be a group of keys. "),
    ("training", None, "null: must be a group of keys. "),
]


@pytest.mark.parametrize(("path", "value", "text"), WRONG)
def test_a_wrong_value_is_told_with_rule_and_remedy(path, value, text):
    with pytest.raises(ConfigError) as caught:
        PretrainConfig.from_dict(with_value(path, value))
    said = str(caught.value)
    assert said.startswith(f"{path}: {text}")
    assert "\n" not in said
    assert said.endswith((".", ")"))
    assert caught.value.subject == path
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("pretext.noize", "pretext.noise"),
        ("pretext.maskratio", "pretext.mask_ratio"),
        ("training.epoch", "training.epochs"),
        ("training.lr_rate.x", "training.learning_rate"),
        ("epochs", "training.epochs"),
        ("patch_size", "data.patch_size"),
        ("trainin", "training"),
        ("data.patchsize", "data.patch_size"),
        ("runid", "run_id"),
        ("compute.zzzz", None),
    ],
)
def test_an_unknown_key_names_the_nearest(path, nearest):
    with pytest.raises(ConfigError, match="is no known key") as caught:
        PretrainConfig.from_dict(with_value(path, 1))
    told = str(caught.value)
    assert (f"Did you mean {nearest}?" in told) if nearest else ("Known keys here: " in told)


def test_what_is_missing_is_named_and_a_typo_comes_first():
    with pytest.raises(ConfigError, match=r"^data: is required"):
        PretrainConfig.from_dict({"pretext": {"task": "crappify"}})
    with pytest.raises(ConfigError, match=r"^data.train: is required. Add it: Images to learn"):
        PretrainConfig.from_dict({"data": {}, "pretext": {"task": "crappify"}})
    fields = {"data": {"trian": "x"}, "pretext": {"task": "crappify", "noise": 3}}
    with pytest.raises(ConfigError) as caught:
        PretrainConfig.from_dict(fields)
    assert str(caught.value).startswith("data.trian: x: is no known key. Did you mean data.train?")
    for other in ("data.train", "pretext.noise"):
        assert other in str(caught.value).partition("Also wrong: ")[2]


def test_ranks_are_compared_where_ndim_is_given():
    for path in ("data.patch_size", "pretext.token_size"):
        fields = with_value(path, [8, 8])
        fields["data"]["ndim"] = 3
        with pytest.raises(ConfigError, match="need 3 numbers"):
            PretrainConfig.from_dict(fields)


def test_it_is_frozen_and_replace_checks_again():
    config = PretrainConfig(**LEAST)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "x"
    with pytest.raises(ValueError, match="less than or equal to 1"):
        config.pretext.replace(noise=3)
    assert config.replace(run_id=4).run_id == 4


def test_one_path_or_a_list_of_them():
    one = PretrainConfig(**LEAST)
    assert one.data.train == ("images",)
    assert one == PretrainConfig.from_dict(with_value("data.train", ["images"]))


def test_every_key_is_described():
    for path in all_keys(PretrainConfig):
        field = field_at(path, PretrainConfig)
        assert field is not None
        group = path in {"data", "pretext", "backbone", "training", "compute"}
        assert group or len(field.description) > 10


# --- YAML ---


def read(text):
    return parse_yaml(text, "a.yaml")


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.e-4", "+1e-4", "1.0e-4", "0.0001"])
def test_small_numbers_are_numbers(number):
    assert read(f"a: {number}") == {"a": 1e-4}


def test_lists_and_words_stay_what_they_are():
    assert read("a: [1, 2]\nb: e4\nc: '1e4'\nd: null") == {
        "a": [1, 2],
        "b": "e4",
        "c": "1e4",
        "d": None,
    }


BROKEN = {
    "a: 1\nb: 2\na: 3": r"line 3: the key a stands twice",
    "a:\n  b: 1\n  b: 2": r"line 3: the key b stands twice",
    "a: [1, 2": r"is no valid YAML \(line",
    "a: 1\n b: 2": r"is no valid YAML \(line 2",
    "\tb: 2": "is no valid YAML",
    "a: !!python/object/apply:os.system [echo]": "is no valid YAML .*could not determine",
    "a: !!python/name:os.system": "is no valid YAML",
    "a: !x 3": "is no valid YAML",
    "a: *b": "is no valid YAML .*undefined alias",
    "": "must hold keys and values",
    "# nothing\n": "must hold keys and values",
    "- a\n- b": "must hold keys and values",
    "just text": "must hold keys and values",
    "1: 2": "must hold keys and values",
    "a: 1\n---\nb: 2": "is no valid YAML",
    "a: \x00": "is no valid YAML",
    "[" * 5000: "is no valid YAML",
    "? [a, b]\n: 1": "is no valid YAML|must hold keys",
}


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_broken_yaml_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match=BROKEN[text]) as caught:
        read(text)
    assert str(caught.value).startswith("a.yaml: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    cases = {
        "gone.yaml": (lambda _: None, "no such file"),
        "folder.yaml": (lambda p: p.mkdir(), "cannot be read"),
        "picture.yaml": (lambda p: p.write_bytes(b"\xff\xd8\xff\x00"), "it is no text"),
        "large.yaml": (lambda p: p.write_bytes(b"#" * (MAX_BYTES + 1)), "less than 4 MB"),
    }
    for name, (make, text) in cases.items():
        make(tmp_path / name)
        with pytest.raises(ConfigError, match=text) as caught:
            PretrainConfig.from_yaml(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="rights do not hold")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: a")
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
@example({"\x85": None})
@example(["\u2028 a"])
def test_what_is_dumped_reads_back(value):
    assert read(dump_yaml({"key": value})) == {"key": value}


def test_from_yaml_equals_the_arguments(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "name: größe\ndata:\n  train: [a, b]\n  patch_size: [32, 48]\n"
        "pretext: {task: masking, token_size: 8}\ntraining:\n  learning_rate: 1e-4\n",
        encoding="utf-8",
    )
    config = PretrainConfig.from_yaml(path)
    assert config == PretrainConfig(
        name="größe",
        data={"train": ("a", "b"), "patch_size": (32, 48)},
        pretext={"task": "masking", "token_size": 8},
        training={"learning_rate": 1e-4},
    )
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert PretrainConfig.from_yaml(path) == config
