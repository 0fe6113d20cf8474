"""A script's meaning as a hash: its syntax tree and those of the library modules it uses, without comments and docstrings.

Snakemake sees changes neither in imported modules nor the difference between a comment and a prompt. Every rule carries
this hash as a param: editing a comment costs nothing, editing a prompt is never missed.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parent


def _without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def _imported_modules(tree):
    """Names of the library's modules that `tree` imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == LIBRARY.name:
            if node.module == LIBRARY.name:
                yield from (alias.name for alias in node.names)
            else:
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith(f"{LIBRARY.name}."))


@cache
def _meaning(path):
    """(hash of the file's meaning, names of the library modules it imports)"""
    tree = _without_docstrings(ast.parse(Path(path).read_text(encoding="utf-8"), str(path)))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(sorted(set(_imported_modules(tree))))


@cache
def code_fingerprint(script):
    """Hexadecimal hash (16 digits) over the meaning of `script` (a path) and of all library modules that it reaches."""
    found, waiting = {}, [Path(script)]
    while waiting:
        path = waiting.pop()
        if path.name in found:
            continue
        found[path.name], modules = _meaning(path)
        waiting += [LIBRARY / f"{module}.py" for module in modules]
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]
