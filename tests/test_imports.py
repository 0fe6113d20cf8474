"""What may import what: the shape of the house."""

import ast
import re
import subprocess
import sys

import pytest

from conftest import ROOT

SCRIPTS = ROOT / "workflow_scripts"
LIBRARY = SCRIPTS / "dermaflux"
# modules of the stages up to the corpus, and of tables and reports
WITHOUT_TORCH = ["archives", "arms", "caption_audit", "captioner_reviews", "captioner_study", "captions", "compare", "config", "corpus", "demo_archives", "download", "draws", "images", "index", "manifest", "report"]  # fmt: skip


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_table_jobs_start_without_torch(module):
    code = f"import sys, dermaflux.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS).returncode == 0


def test_the_library_never_imports_snakemake():
    for path in LIBRARY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
            )
            assert not any(name.split(".")[0] == "snakemake" for name in names), path


def test_every_rule_has_a_script_of_its_name_a_log_and_an_environment():
    for path in (ROOT / "rules").glob("*.smk"):
        for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.M | re.S):
            assert f'"../workflow_scripts/{name}.py"' in body, name
            assert "    log:" in body and "    conda:" in body, name
            assert name == "download_archive" or f'code=code("{name}")' in body, name


def test_the_snakefile_is_wiring_and_common_holds_functions_only():
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 80
    common = (ROOT / "rules/common.smk").read_text()
    assert len(common.splitlines()) <= 200 and not re.search(r"^rule ", common, re.M)
