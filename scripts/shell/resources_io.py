"""Text files that lie in our packages beside the code: pages, their style and their scripts."""

import importlib.resources


def read_resource(package: str, name: str) -> str:
    """Reads a text file of a package, from a checkout or from wherever it is installed."""
    return importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")
