"""Traced programs are kept where JAX keeps compiled ones, for the next process.

JAX's cache spares a process the compilation of a program that was compiled before, but not the
tracing and lowering that come first; of our larger kernels these take a second each. `kept` is
`jax.jit` that spares them too: it exports a program once (`jax.export`), and later processes read
it. It does so where a folder for compiled programs is set (`jax_compilation_cache_dir`), at the
outermost level, on one device; elsewhere it is `jax.jit`.

A file is named by a digest of all that a trace depends on: the function, its static arguments, the
tree, shapes and types of the others, JAX's settings, and the code of the rooms concerned.
"""

import contextlib
import functools
import hashlib
import inspect
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export

from render.stages import is_traced
from render.tree_io import digest_of_code, drop_oldest, read_tree, write_tree

_FOLDER = "traced"  # below that of the compiled programs
_MOST_FILES = 200  # about 100 kB each
_SETTINGS = (  # of JAX, that change what is traced
    *("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion"),
    *("jax_default_prng_impl", "jax_threefry_partitionable"),
)
_CHECKS = "jax_debug_nans", "jax_debug_infs", "jax_disable_jit", "jax_check_tracer_leaks"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in the text of what has none of its own


class _Program(NamedTuple):
    call: Callable[..., list[jax.Array]]
    result: Any  # the tree of what the function returns, a place in the list at each leaf


def kept(function: Callable, static_argnames: str | Iterable[str] = ()) -> Callable:
    """Returns `jax.jit(function)`, whose traced program outlives the process.

    Args:
      function: of a module of this project, with positional or keyword arguments; what it returns
        is a tree of this project's records and of arrays.
      static_argnames: as of `jax.jit`.
    """
    static = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    jitted = jax.jit(function, static_argnames=static)
    signature = inspect.signature(function)
    programs: dict[tuple, _Program | None] = {}

    @functools.wraps(function)
    def call(*args, **kwargs):
        folder = jax.config.jax_compilation_cache_dir
        if not folder or is_traced((args, kwargs)) or not _is_plain():
            return jitted(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        fixed = {name: bound.arguments[name] for name in static}
        moving = {name: value for name, value in bound.arguments.items() if name not in static}
        leaves, structure = jax.tree.flatten(moving)
        types = tuple((x.shape, x.dtype.name, x.weak_type) for x in map(jax.typeof, leaves))
        settings = tuple(getattr(jax.config, name) for name in _SETTINGS)
        key = folder, tuple(fixed.items()), structure, types, settings
        if key not in programs:
            programs[key] = _load(function, fixed, structure, leaves, key)
        program = programs[key]
        if program is None:
            return jitted(*args, **kwargs)
        return jax.tree.map(program.call(*leaves).__getitem__, program.result)

    call.lower = jitted.lower
    call._cache_size = lambda: jitted._cache_size() + len(programs)  # as of `jax.jit`
    return call


def _is_plain() -> bool:
    """Whether nothing asks for what an exported program cannot do."""
    return jax.device_count() == 1 and not any(getattr(jax.config, name) for name in _CHECKS)


def _load(
    function: Callable, fixed: dict[str, Any], structure: Any, leaves: list, key: tuple
) -> _Program | None:
    """Reads a program, or exports and writes it; None if it cannot be exported."""
    room = function.__module__.partition(".")[0]
    name = f"{function.__module__}.{function.__qualname__}"
    text = f"{name} {key[1:]!r} {jax.default_backend()} {digest_of_code('render', room)}"
    if _ADDRESS.search(text):
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = pathlib.Path(key[0]) / _FOLDER
    path = folder / f"{name}-{digest}.safetensors"
    with contextlib.suppress(Exception):  # whatever a damaged file does
        tree = read_tree(path)
        exported = export.deserialize(bytearray(tree["program"]))
        os.utime(path)  # the ones not used for longest go first
        return _Program(_callable(exported, function.__name__), tree["result"])
    try:
        exported, result = _export(function, fixed, structure, leaves)
        program = np.frombuffer(exported.serialize(), np.uint8)
    except Exception:  # whatever it is, `jax.jit` says it better, or can do it
        return None
    with contextlib.suppress(OSError):  # a full disk, a folder that is not ours
        write_tree(path, {"program": program, "result": result})
        drop_oldest(folder, _MOST_FILES)
    return _Program(_callable(exported, function.__name__), result)


def _callable(exported: export.Exported, name: str) -> Callable[..., list[jax.Array]]:
    def call(*arrays):
        return exported.call(*arrays)

    call.__name__ = name  # what profilers and JAX's log show
    return jax.jit(call)


def _export(
    function: Callable, fixed: dict[str, Any], structure: Any, leaves: list
) -> tuple[export.Exported, Any]:
    """Exports a function of lists of arrays; with it the tree that its results make up."""
    result = None

    def flat(*arrays):
        nonlocal result
        found, tree = jax.tree.flatten(function(**jax.tree.unflatten(structure, arrays), **fixed))
        result = jax.tree.unflatten(tree, range(len(found)))
        return found

    flat.__name__ = function.__name__
    return export.export(jax.jit(flat))(*leaves), result
