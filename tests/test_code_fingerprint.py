import shutil

import pytest

from dermaflux import code_fingerprint as module


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of two modules, used by one script."""
    folder = tmp_path / "dermaflux"
    folder.mkdir()
    (folder / "outer.py").write_text('"""Doc."""\nfrom dermaflux.inner import PROMPT\n')
    (folder / "inner.py").write_text("PROMPT = 'a'  # why\n")
    (folder / "other.py").write_text("X = 1\n")
    (tmp_path / "script.py").write_text("from dermaflux.outer import PROMPT\nprint(PROMPT)\n")
    monkeypatch.setattr(module, "LIBRARY", folder)
    return folder


def fingerprint(library):
    module._meaning.cache_clear()
    module.code_fingerprint.cache_clear()
    return module.code_fingerprint(library.parent / "script.py")


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("dermaflux/inner.py", "# another comment\nPROMPT = 'a'\n", False),
        ("dermaflux/outer.py", '"""Another docstring."""\nfrom dermaflux.inner import PROMPT\n', False),
        ("dermaflux/other.py", "X = 2\n", False),
        ("dermaflux/inner.py", "PROMPT = 'b'\n", True),
        ("script.py", "from dermaflux.outer import PROMPT\nprint(PROMPT, 1)\n", True),
    ],
)
def test_only_changes_of_meaning_in_used_modules_change_it(library, file, text, changes):
    before = fingerprint(library)
    (library.parent / file).write_text(text)
    assert (fingerprint(library) != before) == changes


def test_it_does_not_depend_on_where_the_checkout_lies(library, tmp_path, monkeypatch):
    before = fingerprint(library)
    shutil.copytree(library.parent, tmp_path / "elsewhere", ignore=lambda *_: ["elsewhere"])
    moved = tmp_path / "elsewhere" / "dermaflux"
    monkeypatch.setattr(module, "LIBRARY", moved)
    assert fingerprint(moved) == before
