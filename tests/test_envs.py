import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import ROOT

PINS = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "requirements.txt").read_text(), re.M))
ENVS = sorted((ROOT / "envs").glob("*.yaml"))
# vLLM 0.10.2, the last that serves Llama 3.2 Vision, and what it needs in another version than the rest of us
APART = {"caption": {"numpy": "2.2.6", "transformers": "4.56.2", "vllm": "0.10.2"}}


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_environments_have_the_pins_of_the_requirements(path):
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    pip = dependencies[-1]["pip"]
    assert dependencies[:-1] == ["python=3.11", "pip"]
    assert pip == sorted(pip)
    for name, version in (pin.split("==") for pin in pip):
        assert (PINS | APART.get(path.stem, {}))[name] == version


def test_every_rule_names_an_environment_that_exists():
    named = {
        n for rules in (ROOT / "rules").glob("*.smk") for n in re.findall(r"\.\./envs/(\w+)\.yaml", rules.read_text())
    }
    assert named == {path.stem for path in ENVS}


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_the_pins_of_an_environment_can_be_installed_together(path, tmp_path):
    pins = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
    (tmp_path / "pins.txt").write_text("\n".join(pins))
    uv = [Path(sys.executable).parent / "uv", "pip", "compile", "--quiet", "--no-annotate"]
    platform = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    done = subprocess.run([*uv, *platform, tmp_path / "pins.txt"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(re.findall(r"^[\w.-]+==", done.stdout, re.M)) > len(pins)


def test_pins_that_do_not_go_together_are_noticed(tmp_path):
    (tmp_path / "pins.txt").write_text("transformers==4.56.2\nhuggingface-hub==2.4.0\n")
    uv = [Path(sys.executable).parent / "uv", "pip", "compile", "--quiet", "--python-version", "3.11"]
    done = subprocess.run([*uv, tmp_path / "pins.txt"], capture_output=True, text=True)
    assert done.returncode and "No solution found" in done.stderr
