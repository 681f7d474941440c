"""Commands run by tests: in this process, which costs what the command does, or in one of its own.

absl keeps one register of flags for a process, and commands name theirs alike (--out, --seed), so
only the flags of the command that runs are in it.
"""

import contextlib
import importlib
import io
import os
import pathlib
import re
import subprocess
import sys
import types
import warnings
from typing import NamedTuple
from unittest import mock

from absl import flags
from absl.testing import flagsaver

from scripts.shell import command

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__")
SECONDS = 600.0  # for a process on a machine that others keep busy

_defined: dict[str, list[flags.Flag]] = {}  # the flags of every command imported so far, by module


class Done(NamedTuple):
    """What a command leaves behind; named as in `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def load(name: str) -> types.ModuleType:
    """Imports the command `name` and leaves its flags, and no other command's, in the register."""
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if defined and re.fullmatch(r"scripts\.\w+", module):
            _defined[module] = list(defined)
            for flag in _defined[module]:
                delattr(flags.FLAGS, flag.name)
    module = importlib.import_module(f"scripts.{name}")
    if not flags.FLAGS.flags_by_module_dict().get(module.__name__):  # imported before
        for flag in _defined[module.__name__]:
            flags.FLAGS[flag.name] = flag
            flags.FLAGS.register_flag_by_module(module.__name__, flag)
    return module


def run(name: str, *arguments: str, folder: pathlib.Path = ROOT) -> Done:
    """Runs a command in this process, from `folder`, as its own process would."""
    main = load(name).main
    argv = [str(ROOT / "scripts" / f"{name}.py"), *arguments]
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        warnings.catch_warnings(),
        flagsaver.flagsaver(),
    ):
        try:
            command._parse_flags(argv)
            status = command._exit_status(main)
        except SystemExit as stop:
            status = stop.code
    return Done(status, stdout.getvalue(), stderr.getvalue())


def start(name: str, *arguments: str, folder: pathlib.Path = ROOT) -> subprocess.Popen:
    """Starts a command in a process of its own, which the caller ends."""
    return subprocess.Popen(
        [sys.executable, "-m", f"scripts.{name}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )


def run_alone(name: str, *arguments: str, folder: pathlib.Path = ROOT) -> Done:
    """Runs a command in a process of its own."""
    with start(name, *arguments, folder=folder) as process:
        try:
            stdout, stderr = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Done(process.returncode, stdout, stderr)
