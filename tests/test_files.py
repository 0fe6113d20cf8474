import pytest

from dermaflux.files import atomic_path, fingerprint, fraction, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_fingerprints_ignore_the_order_of_keys():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 2, "b": 2})


def test_fractions_are_fixed_and_spread():
    assert fraction("draw", 0, "x") == fraction("draw", 0, "x") == 0.9947596150109298
    values = [fraction("spread", i) for i in range(1000)]
    assert 0 <= min(values) < 0.01 and 0.99 < max(values) < 1
