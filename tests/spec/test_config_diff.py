from __future__ import annotations

from napari_ssl_pretrain.spec.config_diff import MISSING, differences


def test_only_what_differs_by_its_dotted_path():
    a = {"name": "a", "run_id": 1, "data": {"train": ["x"], "ndim": 2}, "training": {"lr": 1e-3}}
    b = {
        "name": "b",
        "run_id": 2,
        "data": {"train": ["x", "y"], "ndim": 2},
        "training": {"lr": 1e-3},
    }
    assert differences([a, b]) == [("data.train", ["x", "x, y"])]
    assert differences([a, a]) == []


def test_what_one_of_them_lacks_and_what_auto_became():
    a, b = {"backbone": {"size": "auto"}, "old": True}, {"backbone": {"size": "auto"}}
    used = [{"backbone": {"size": "tiny"}}, {"backbone": {"size": "base"}}]
    rows = dict(differences([a, b], used))
    assert rows == {"backbone.size": ["auto (tiny)", "auto (base)"], "old": ["yes", MISSING]}


def test_what_the_machine_had_free_is_no_difference():
    given = {"compute": {"memory_gb": "auto"}}
    used = [{"compute": {"memory_gb": 9.0}}, {"compute": {"memory_gb": 8.5}}]
    assert differences([given, given], used) == []


def test_configurations_that_are_none_of_ours():
    deep = {}
    for _ in range(50):
        deep = {"k": deep}
    rows = differences([{"a": {}, "d": deep, "x": "y" * 10_000}, {"a": None}])
    assert {path for path, _ in rows} >= {"a", "x"}
    assert all(len(text) <= 200 for _, texts in rows for text in texts)
