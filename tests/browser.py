"""A headless browser for the tests of pages, and pictures of them taken until they show enough."""

import contextlib
import importlib.util
import io
import shutil
import socket
import time

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECONDS = 300.0  # a page with WebGL, drawn by a processor that others keep busy
_OPTIONS = (
    *("--no-sandbox", "--no-first-run"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="chromium or playwright is not installed",
)


@contextlib.contextmanager
def running():
    """Yields the machine's own browser; for a module's fixture, because a start takes a second."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_OPTIONS, timeout=1e3 * SECONDS
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page(browser, address, width, height):
    """Opens `address` in a fresh window of `width` by `height` pixels; yields Playwright's page."""
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        context.set_default_timeout(1e3 * SECONDS)
        opened = context.new_page()
        opened.goto(address, wait_until="commit")
        yield opened
    finally:
        context.close()


def look_until(page, condition, seconds=SECONDS):
    """Looks at a page until `condition` of its picture [H, W, 3] in [0, 1] holds.

    Returns the last picture, of which the condition holds unless `seconds` have passed. The time is
    real: a page that hears from a server, or draws on a busy machine, knows no other.
    """
    from playwright.sync_api import Error

    deadline = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > deadline
        try:
            with Image.open(io.BytesIO(page.screenshot())) as file:
                picture = np.asarray(file.convert("RGB"), np.float32) / 255
            if is_last or condition(picture):
                return picture
        except Error:  # a busy browser now and then says that it cannot take one
            if is_last:
                raise
        time.sleep(0.2)


def unused_port():
    """Returns a port that no other test, in whatever process, is about to take."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def wait_for_port(server, port, seconds=SECONDS):
    """Waits until the process `server` answers at `port` of this machine."""
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("localhost", port)):
                return
        assert server.poll() is None, server.stderr.read()
        assert time.monotonic() < deadline, f"nobody answers at port {port}"
        time.sleep(0.1)
