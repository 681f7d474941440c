"""Files of package indexes, found by their digest: from an index in a folder, without a network."""

import functools
import hashlib
import http.server
import os
import threading

import pytest

from scripts.shell import downloads_io
from scripts.shell.downloads_io import fetch_release

CONTENT = b"the weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index with two files of a project, and pip set to use it; a cache of our own."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    page = tmp_path / "simple" / "some-weights" / "index.html"
    page.parent.mkdir(parents=True)
    other = hashlib.sha256(b"other").hexdigest()
    page.write_text(
        f'<a href="../../some_weights-1.1.tar.gz#sha256={other}">some_weights-1.1.tar.gz</a>\n'
        f'<a href="../../some_weights-1.0.tar.gz#sha256={DIGEST}">some_weights-1.0.tar.gz</a>\n'
    )
    (tmp_path / "some_weights-1.0.tar.gz").write_bytes(CONTENT)
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_release_is_found_by_its_digest_and_kept(index, monkeypatch):
    lines = f"[global]\nindex-url = {(index / 'empty').as_uri()}\n"
    lines += f"extra-index-url =\n  {(index / 'none').as_uri()}\n  {(index / 'simple').as_uri()}\n"
    (index / "pip.conf").write_text(lines)
    kept = fetch_release("Some_Weights==1.0", DIGEST)
    assert kept.read_bytes() == CONTENT and kept.is_relative_to(index / "cache")
    monkeypatch.setattr(downloads_io, "_pip", None)  # nobody is asked again
    assert fetch_release("Some_Weights==1.0", DIGEST) == kept


def test_another_file_than_was_said_is_not_kept(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", (index / "simple").as_uri())  # before the file's
    (index / "pip.conf").write_text("[global]\nindex-url = nowhere\nextra-index-url =\n")
    (index / "some_weights-1.0.tar.gz").write_bytes(b"something else")
    with pytest.raises(OSError, match=f"cannot be fetched: expected a file of SHA-256 {DIGEST}"):
        fetch_release("some-weights==1.0", DIGEST)
    assert not [path for path in (index / "cache").rglob("*") if path.is_file()]
    with pytest.raises(OSError, match=r"no such file in file:.*/simple$"):
        fetch_release("some-weights==1.0", 64 * "0")


class _Server(http.server.SimpleHTTPRequestHandler):
    """Serves the index to those who say who they are."""

    def do_GET(self):
        if self.headers["Authorization"] != "Basic bWU6c2UgY3JldA==":
            return self.send_error(401, "who are you?")
        return super().do_GET()

    def log_message(self, *_):
        pass


def test_names_and_passwords_are_sent_and_not_shown(index, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(_Server, directory=str(index))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        for password, line in {
            "se%20cret": f"no such file in http://{host}/simple",
            "other": rf"HTTP Error 401: who are you\? \(http://{host}/simple\)",
        }.items():
            settings = {"index-url": f"http://me:{password}@{host}/simple"}
            monkeypatch.setattr(downloads_io, "_pip_settings", lambda s=settings: s)
            with pytest.raises(OSError, match=f"cannot be fetched: {line}$"):
                fetch_release("some-weights==1.0", 64 * "0")
        settings["index-url"] = f"http://me:se%20cret@{host}/simple/"
        assert fetch_release("some-weights==1.0", DIGEST).read_bytes() == CONTENT
        server.shutdown()


def test_pip_says_where_it_looks_by_default(index):
    (index / "pip.conf").write_text("")
    (address,) = downloads_io._indexes({})
    assert "://" in address
