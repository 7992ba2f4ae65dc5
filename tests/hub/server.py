"""A stand-in for the Hugging Face Hub: the few endpoints that uploads and downloads of small repositories use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


class Hub(ThreadingHTTPServer):
    """Repositories by name: a list of commits, each a dict of files. ``calls`` are the requests that came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.branches: dict[tuple[str, str], int] = {}
        self.calls: list[str] = []
        self.private: dict[str, bool | None] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str, files: dict[str, bytes]) -> None:
        commits = self.repositories[name]
        commits.append({**(commits[-1] if commits else {}), **files})
        self.branches[name, "main"] = len(commits) - 1


@contextmanager
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def identity(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: object = None, code: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code: int, name: str) -> None:
        self.answer({"error": name}, code, X_Error_Code=name, X_Error_Message=name)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.server.calls.append(f"{self.command} {'/'.join(parts)}")
        api = parts[:2] == ["api", "models"]
        if api:
            parts = parts[2:]
        name = "/".join(parts[:2])
        commits = self.server.repositories.get(name)
        if commits is None or (
            self.server.private.get(name) and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        ):
            self.refuse(401, "RepoNotFound")
            return
        revision = parts[3] if len(parts) > 3 else "main"
        known = {identity(n): n for n in range(len(commits))}
        number = self.server.branches.get((name, revision), known.get(revision))
        if number is None:
            self.refuse(404, "RevisionNotFound")
        elif api:
            files = [{"rfilename": file, "size": len(content)} for file, content in commits[number].items()]
            self.answer({"id": name, "sha": identity(number), "siblings": files, "private": False, "tags": []})
        elif (content := commits[number].get("/".join(parts[4:]))) is None:
            self.refuse(404, "EntryNotFound")
        else:
            self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=identity(number))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.server.calls.append(f"POST {'/'.join(parts)}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "Unauthorized")
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name in self.server.repositories:
                self.answer({"error": "exists", "url": f"{self.server.address}/{name}"}, 409)
                return
            self.server.repositories[name] = []
            self.server.private[name] = asked.get("private") or asked.get("visibility") == "private"
            self.server.commit(name, {".gitattributes": b""})
            self.answer({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        elif parts == ["api", "validate-yaml"]:
            self.answer({"errors": [], "warnings": []})
        elif parts[4] == "preupload":
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer({"files": modes})
        elif parts[4] == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                v["path"]: base64.b64decode(v["content"]) for v in (x["value"] for x in lines if x["key"] == "file")
            }
            name = "/".join(parts[2:4])
            self.server.commit(name, files)
            number = len(self.server.repositories[name]) - 1
            address = f"{self.server.address}/{name}/commit/{identity(number)}"
            self.answer({"commitUrl": address, "commitOid": identity(number), "success": True})
        else:
            self.refuse(404, "EntryNotFound")
