"""An OpenAI-compatible endpoint on loopback that misbehaves as it is told."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXTS = {
    "asymmetry": "Both halves match.",
    "border": "The border is smooth.",
    "color": "It is brown.",
    "description": "A small and smooth mole.",
}


def completion(text=None, finish="stop"):
    """The body of a chat completion."""
    text = json.dumps(TEXTS) if text is None else text
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 20}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append({"path": self.path, "headers": dict(self.headers), "time": time.monotonic(), **body})
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            answer = server.answer(len(server.asked) - 1, body)
            if answer is None:  # hang up without a word
                self.connection.close()
                return
            status, value, headers = (200, answer, {}) if isinstance(answer, dict) else answer
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client has gone
        finally:
            with server.lock:
                server.now -= 1

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    request_queue_size = 64  # the default, 5, would make further connections wait a second


@contextmanager
def chat_stub(answer=lambda number, body: completion()):
    """Yield a server with url, asked (list of requests) and most (in flight at once).

    Args:
        answer: function of the request's number and body: the body of a 200, (status, body, headers), or None to hang up.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.answer, server.asked, server.now, server.most, server.lock = answer, [], 0, 0, threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
