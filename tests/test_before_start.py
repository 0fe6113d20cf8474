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
        before_start.check_before_start(jobs)
    place.parent.mkdir(parents=True)
    place.touch()
    before_start.check_before_start(jobs)


def caption_job(**settings):
    params = SimpleNamespace(captioner="c", settings=settings)
    return SimpleNamespace(rule=SimpleNamespace(name="caption_shard"), params=params)


def test_a_captioner_without_its_key_stops_the_run_before_its_first_job(monkeypatch):
    jobs = [job("prepare_shard"), caption_job(backend="openai", url="https://api.example/v1", key="SOME_KEY")]
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UserError, match="https://api.example/v1 needs a key: set the environment variable SOME_KEY"):
        before_start.check_before_start(jobs)
    monkeypatch.setenv("SOME_KEY", "a key")
    before_start.check_before_start(jobs)


def test_imported_captions_must_be_there_before_the_run_starts(tmp_path):
    jobs = [caption_job(backend="imported", file=str(tmp_path / "captions.zip"))]
    with pytest.raises(UserError, match="captions.zip does not exist"):
        before_start.check_before_start(jobs)
    (tmp_path / "captions.zip").touch()
    before_start.check_before_start(jobs)


def test_other_captioners_start_with_what_the_workflow_brings():
    before_start.check_before_start(
        [job("prepare_shard"), caption_job(backend="vllm"), caption_job(backend="measured")]
    )
