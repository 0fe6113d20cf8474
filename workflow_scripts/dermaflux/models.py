"""Models at pinned revisions, in a folder of their own. Weights are safetensors only: a pickle can run code."""

from pathlib import Path

from dermaflux.errors import UserError
from dermaflux.files import fingerprint, read_json, sha256_file, write_json
from dermaflux.hub import check_repository, fetch_repository

RECORD = "revision.json"
# besides safetensors, what loaders read: configurations, tokenizers, the licence and the card
SMALL = (".json", ".txt", ".model", ".jinja", ".md")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def fetch_model(source, folder, endpoint=None):
    """Put the model `source` into `folder`, with revision.json written last.

    revision.json is {source, repo, revision, files: {name: {size, sha256}}}; the revision is the repository's commit, or
    for models of this project a hash of their content. A broken download continues where it was.

    Args:
        source: "hf:REPO@REVISION" (a branch, tag or commit), or "demo:KIND" with KIND one of flux, resnext, vit, clip, vlm.
        endpoint: URL of the hub (default: huggingface.co, or the environment's HF_ENDPOINT).

    Raises:
        UserError: unknown source; no access, no network, no such repository or revision; no safetensors in it; a file
            that does not have the published hash.
    """
    kind, _, rest = source.partition(":")
    if kind == "hf" and "@" in rest:
        record = _fetch_from_hub(*rest.rsplit("@", 1), Path(folder), endpoint)
    elif kind == "demo":
        record = _build(rest, Path(folder))
    else:
        raise UserError(f"models: {source!r} is neither hf:REPO@REVISION nor demo:KIND")
    write_json(Path(folder, RECORD), {"source": source, **record})


def model_revision(folder):
    """The revision of the model in `folder` (str): a commit or a hash of its content."""
    return read_json(Path(folder, RECORD))["revision"]


def _build(kind, folder):
    from dermaflux.demo_models import BUILDERS, FLUX  # imports torch, which a download does without

    if kind not in BUILDERS:
        raise UserError(f"models: demo:{kind} is not known; known are {', '.join(f'demo:{k}' for k in BUILDERS)}")
    if kind == "flux" and not FLUX.exists():
        raise UserError(f"{FLUX} is missing: make it with workflow_scripts/pretrain_demo_flux.py, or clone anew")
    BUILDERS[kind](folder)
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != RECORD)
    files = {str(p.relative_to(folder)): {"size": p.stat().st_size, "sha256": sha256_file(p)} for p in paths}
    return {"repo": f"demo:{kind}", "revision": fingerprint(files)[:40], "files": files}


def wanted_files(names):
    """Those of a repository's files (list of str) that are needed, sorted.

    Of a diffusers repository the folders, without the single-file duplicates at its root; of others all safetensors and
    the small files beside them. Never pickles.
    """
    pipeline = "model_index.json" in names
    return sorted(
        name
        for name in names
        if not name.startswith(("original/", "onnx/", ".", "images/", "assets/"))
        and (name.endswith(SMALL) or name.startswith("LICENSE") or name.endswith(".safetensors"))
        and not (pipeline and "/" not in name and name.endswith(".safetensors"))
        and not name.endswith(tuple(f"{tail}.index.json" for tail in PICKLES))
    )


def check_model(source, endpoint=None):
    """Make sure that the model `source` could be fetched: (its revision, bytes to fetch); see `fetch_model` for errors."""
    kind, _, rest = source.partition(":")
    if kind == "demo":
        return source, 0
    if kind != "hf" or "@" not in rest:
        raise UserError(f"models: {source!r} is neither hf:REPO@REVISION nor demo:KIND")
    repo, revision = rest.rsplit("@", 1)
    return check_repository("model", repo, revision, _chosen_of(repo, revision), endpoint)


def _chosen_of(repo, revision):
    """The function that chooses those of a repository's files that are fetched."""

    def choose(names):
        wanted = wanted_files(names)
        if not any(name.endswith(".safetensors") for name in wanted):
            weights = [name for name in names if name.endswith(PICKLES)] or sorted(names)
            raise UserError(
                f"{repo} at {revision} has no safetensors weights, only {', '.join(weights)}. Pickles are not loaded, as "
                "they can run code: give another revision (some repositories have one under refs/pr/N) or another source."
            )
        return wanted

    return choose


def _fetch_from_hub(repo, revision, folder, endpoint):
    commit, files = fetch_repository("model", repo, revision, folder, _chosen_of(repo, revision), endpoint)
    return {"repo": repo, "revision": commit, "files": files}
