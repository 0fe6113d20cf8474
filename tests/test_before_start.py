from types import SimpleNamespace

import pytest

from dermaflux import before_start
from dermaflux.errors import UserError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def job(rule, source=None, state="state", archive="ddi.zip"):
    params = SimpleNamespace(source=source, state=state)
    return SimpleNamespace(rule=SimpleNamespace(name=rule), params=params, wildcards=SimpleNamespace(archive=archive))


def test_a_file_that_a_person_must_fetch_stops_the_run_before_its_first_job(tmp_path):
    source = {"access": "manual", "page": "https://ddi.example", "instructions": "Sign the form."}
    jobs = [job("prepare_shard"), job("download_archive", source)]
    place = tmp_path / "state/manual/ddi.zip"
    with pytest.raises(UserError, match=f"https://ddi.example . Sign the form. Then put the file at {place}"):
        before_start.check_before_start(jobs, "measured")
    place.parent.mkdir(parents=True)
    place.touch()
    before_start.check_before_start(jobs, "measured")


def test_a_captioner_that_is_not_built_in_stops_only_runs_that_caption():
    before_start.check_before_start([job("prepare_shard")], "vllm")
    with pytest.raises(UserError, match="'vllm' is not built into this version"):
        before_start.check_before_start([job("caption_shard")], "vllm")
