"""A hub on this machine: as much of the Hugging Face hub as writing and reading a small model needs."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """files: of its one repository, by path. asked: methods and paths of all requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        if "/resolve/" in self.path:
            return self._file()
        if self.path.startswith("/api/models/") and self.server.files:
            siblings = [{"rfilename": name} for name in self.server.files]
            tree = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": len(content)}
                for name, content in self.server.files.items()
            ]
            return self._json(
                tree if "/tree/" in self.path else {"id": "some/sae", "sha": COMMIT, "siblings": siblings}
            )
        return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            return self._json({"url": f"{self.server.address}/some/sae"})
        if "/preupload/" in self.path:
            wanted = json.loads(body)["files"]
            return self._json(
                {
                    "files": [
                        {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in wanted
                    ]
                }
            )
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self._json(
                {"commitUrl": f"{self.server.address}/some/sae/commit/{COMMIT}", "commitOid": COMMIT}
            )
        return self._json({})

    def _file(self) -> None:
        content = self.server.files[self.path.split("/resolve/")[1].split("/", 1)[1]]
        self._answer(content, 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Nothing on the console."""
