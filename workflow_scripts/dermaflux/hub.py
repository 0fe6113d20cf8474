"""Repositories of the Hugging Face hub, models and datasets alike, through its own client."""

import os
from contextlib import contextmanager

from dermaflux.errors import UserError
from dermaflux.files import sha256_file
from dermaflux.job import say


def fetch_repository(kind, repo, revision, folder, choose, endpoint=None):
    """Put files of a repository into `folder`. A broken download continues where it was.

    Args:
        kind: "model" or "dataset".
        repo: OWNER/NAME.
        revision: a branch, tag or commit.
        folder: Path.
        choose: function from the names of all files (list of str) to those wanted.
        endpoint: URL of the hub (default: huggingface.co, or the environment's HF_ENDPOINT).

    Returns:
        (commit, files): str; {name: {size, sha256}}.

    Raises:
        UserError: no access, no network, no such repository or revision; a file that does not have the published hash.
    """
    from huggingface_hub import HfApi, snapshot_download

    endpoint = endpoint or os.environ.get("HF_ENDPOINT")  # which the client reads only when it is imported
    with _refusals_explained(kind, repo, revision):
        info = HfApi(endpoint=endpoint).repo_info(repo, revision=revision, repo_type=kind, files_metadata=True)
        published = {file.rfilename: file for file in info.siblings}
        names = choose(list(published))
        say(f"{repo} at {info.sha}: {len(names)} files, {sum(published[n].size or 0 for n in names) / 1e9:.2f} GB")
        snapshot_download(
            repo, revision=info.sha, repo_type=kind, local_dir=folder, allow_patterns=names, endpoint=endpoint
        )
    return info.sha, {name: _checked(folder, published[name]) for name in names}


def check_repository(kind, repo, revision, choose, endpoint=None, timeout=10.0):
    """Make sure that files of a repository could be fetched, without fetching any; see `fetch_repository`.

    Args:
        timeout: seconds.

    Returns:
        (commit, bytes of the chosen files).
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT"))
    with _refusals_explained(kind, repo, revision):
        info = api.repo_info(repo, revision=revision, repo_type=kind, files_metadata=True, timeout=timeout)
        api.auth_check(repo, repo_type=kind)  # anyone may see what a gated repository holds, but not fetch it
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    return info.sha, sum(sizes[name] for name in choose(list(sizes)))


@contextmanager
def _refusals_explained(kind, repo, revision):
    """What the hub's client raises, as a UserError that says what to do."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # the HTTP library's own, whichever the hub's client uses
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except HfHubHTTPError as error:
        raise UserError(_refusal(_page(kind, repo), repo, revision, error)) from None
    except HFValidationError:
        raise UserError(f"{kind}s: {repo!r} is not the name of a repository (OWNER/NAME)") from None
    except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError) as error:
        raise UserError(
            f"{repo} cannot be reached ({type(error).__name__}): check the network (on a cluster, compute nodes often have "
            "none: fetch where there is one). A broken download continues."
        ) from None


def _page(kind, repo):
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"


def _refusal(page, repo, revision, error):
    """What to do about an HTTP error. The token is never shown."""
    status = error.response.status_code if error.response is not None else None
    gated = type(error).__name__ == "GatedRepoError"
    if gated or status in (401, 403):
        token = "HF_TOKEN is set, but does not give access" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
        return (
            f"{repo} is closed to us (HTTP {status}; {token}). Log in, accept the licence on {page}, make a read token on "
            "https://huggingface.co/settings/tokens, and set it as the environment variable HF_TOKEN. (A misspelt "
            "repository is refused in the same way.)"
        )
    if status == 404:
        return f"{repo} has no revision {revision!r}, or does not exist: see {page}/commits/main"
    return f"{repo}: the hub answered HTTP {status}. Try again later; a broken download continues."


def _checked(folder, published):
    """{size, sha256} of a downloaded file. Large files have a published hash, which is compared."""
    path = folder / published.rfilename
    digest = sha256_file(path)
    if published.lfs and published.lfs.sha256 != digest:
        path.unlink()
        raise UserError(f"{path} does not have the published SHA-256 and was removed: run the same command again")
    return {"size": path.stat().st_size, "sha256": digest}
