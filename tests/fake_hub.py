"""The part of the Hugging Face hub's interface that a download uses, on loopback."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"
REPOS = {
    "owner/good": {
        "model.safetensors": b"weights",
        "config.json": b"{}",
        "pytorch_model.bin": b"pickle",
        "a/b.json": b"[]",
    },
    "owner/pickled": {"open_clip_pytorch_model.bin": b"pickle", "open_clip_config.json": b"{}"},
    "owner/broken": {"model.safetensors": b"weights"},
    "owner/pictures": {"Benign/1.png": b"a picture", "Malignant/2.png": b"another", ".gitattributes": b"lfs"},
}


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that a download uses."""

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        self.server.asked.append(path)
        name = "/".join(re.sub("^(api/models|api/datasets|datasets)/", "", path).split("/")[:2])
        if name == "owner/gated":
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if name == "owner/private":
            return self.answer(401, b"{}", {"X-Error-Message": "Invalid username or password."})
        if name not in REPOS or "nowhere" in path:
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = REPOS[name]
        if path.startswith("api/"):
            return self.answer(
                200, json.dumps(self.listing(name, path, files)).encode(), {"Content-Type": "application/json"}
            )
        data = files[path.split(f"resolve/{SHA}/")[1]]
        return self.answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": SHA})

    do_HEAD = do_GET

    def listing(self, name, path, files):
        lfs = lambda n, d: {"sha256": hashlib.sha256(d + b"?" * (name == "owner/broken")).hexdigest(), "size": len(d)}  # noqa: E731
        large = lambda n: n.endswith((".safetensors", ".bin"))  # noqa: E731
        if "/tree/" in path:
            return [
                {
                    "type": "file",
                    "path": n,
                    "size": len(d),
                    "oid": "0",
                    **({"lfs": {"oid": lfs(n, d)["sha256"], "size": len(d), "pointerSize": 1}} if large(n) else {}),
                }
                for n, d in files.items()
            ]
        siblings = [
            {"rfilename": n, "size": len(d), **({"lfs": {**lfs(n, d), "pointerSize": 1}} if large(n) else {})}
            for n, d in files.items()
        ]
        return {
            "id": name,
            "modelId": name,
            "sha": SHA,
            "siblings": siblings,
            "private": False,
            "tags": [],
            "downloads": 0,
        }

    def answer(self, status, data, headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
