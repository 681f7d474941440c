"""What every test may ask for, and the upkeep of the programs that jax compiles for them."""

import ctypes
import gc
import math
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator

import commands
import jax
import pytest

from recon import assets
from recon.looks import looks_io
from recon.looks.look import Looks
from recon.morphable import MorphableModel

# Workers, and the processes that they start, read each other's compiled programs, and those of the
# run before.
_PROGRAMS = commands.ROOT / ".pytest_cache" / "jax"
_CACHE_SETTINGS = {
    "jax_compilation_cache_dir": str(_PROGRAMS),
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
# Most of the tests' time goes into compiling what runs but a moment. Without LLVM's dearest passes
# and XLA's emitters of fusions it takes two thirds of that. `make test-all` compiles as users do.
_HASTY_XLA_FLAGS = "--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
_MAX_RESIDENT_BYTES = 1.4e9


def pytest_configure(config: pytest.Config) -> None:
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # as shells start what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.markexpr:
        os.environ.setdefault("XLA_FLAGS", _HASTY_XLA_FLAGS)  # read when the first array is made
    os.environ["XDG_CACHE_HOME"] = str(_PROGRAMS.parent / "user")  # the user's own is left alone
    for name, value in _CACHE_SETTINGS.items():
        os.environ.setdefault(name.upper(), str(value))
        jax.config.update(name, type(value)(os.environ[name.upper()]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is marked `gpu` where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and jax.default_backend() == "cpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="there is no GPU"))


@pytest.fixture(autouse=True)
def drop_programs() -> Iterator[None]:
    """Drops compiled programs when they hold much memory: jax itself keeps every one to the end."""
    yield
    if _resident_bytes() > _MAX_RESIDENT_BYTES:
        jax.clear_caches()
        gc.collect()
        if sys.platform == "linux":  # else what was freed stays with the process
            ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> float:
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return math.inf
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def x64() -> Iterator[None]:
    """Computes in float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def no_program_folder() -> Iterator[None]:
    """Leaves it open where compiled programs go, as where nobody has chosen."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", folder)


@pytest.fixture(scope="session")
def default_model() -> MorphableModel:
    return assets.load_model()


@pytest.fixture(scope="session")
def looks() -> Looks:
    return looks_io.load_looks()


@pytest.fixture(scope="session")
def run_command() -> Callable[..., commands.Done]:
    """Runs a command in this process: `run_command(name, *arguments, folder=...)`."""
    return commands.run


@pytest.fixture(scope="session")
def run_command_alone() -> Callable[..., commands.Done]:
    """Runs a command in a process of its own: for what only that can show."""
    return commands.run_alone
