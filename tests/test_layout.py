"""The house rules: who may import whom, who may touch the disk, how a file is made up.

A rule with exceptions names them, each with its reason; one that is no longer needed fails the
rule's test too, so the lists can only shrink.
"""

import ast
import collections
import functools
import pathlib

ROOT = pathlib.Path(__file__).parents[1]
MAY_IMPORT = {
    "render": set(),
    "recon": {"render"},
    "sim": {"render"},
    "models": {"render"},
    "scripts": {"recon", "sim", "models", "render"},
}
DISK_ROOMS = {"assets.py", "weights.py"}  # and *_io.py
DISK_MODULES = {"h5py", "imageio", "pickle", "shutil", "tempfile", "trimesh", "zipfile"}
DISK_CALLS = {
    *("open", "load", "loadtxt", "fromfile", "loadmat", "read_text", "read_bytes"),
    *("save", "savez", "savez_compressed", "savetxt", "tofile", "savemat", "dump"),
    *("write_text", "write_bytes", "mkdir", "makedirs", "touch", "unlink", "rmdir", "remove"),
}
PATHS = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]
COMMANDS = [path for path in sorted((ROOT / "scripts").glob("*.py")) if path.stem != "__init__"]

UPWARD = {}
# The only file that imports jaxopt, and who does so beside it.
SOLVER = "recon/levenberg_marquardt.py"
BESIDE_THE_SOLVER = {}
MATHS_IN_SCRIPTS = {
    "scripts/viewing/layers.py": "packs splats for the page",
    "scripts/viewing/play_panel.py": "moves what is shown",
}
SAID_TWICE = {
    ("recon", "Skin"): "one is painted, one is drawn on",
    ("recon", "View"): "what of a head a photo sees, and where a random person is seen from",
    ("recon", "deviations"): "of a file's modes, and of shading",
    ("recon", "prepare"): "a model for the fit, and for painting",
    ("scripts", "main"): "every command has one",
    ("scripts", "measure"): "each peer is a program of its own, started by its name",
    ("scripts", "milliseconds"): "the peer in torch is timed where jax is not imported",
    ("scripts", "summary"): "of a report, of a head and of an annotation",
}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60
LONG_FILES = {}
LONG_FUNCTIONS = {
    "scripts/benchmarks/taichi_mpm.py:_make_step": "kernels that taichi wants inside one function",
    "sim/particles.py:prepare": "a scene made ready, step by step",
}


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def called_names(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr


def name_of(path):
    """Names a file from the root on."""
    return path.relative_to(ROOT).as_posix()


def functions():
    """Yields "file:function" and the node of every function and method."""
    for path in PATHS:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name_of(path)}:{node.name}", node


def dotted_names(path):
    """Yields every `a.b` that a file spells, with the modules that it imports."""
    yield from imported_modules(path)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def assert_only(offenders, exceptions):
    """Fails on an offender that is no exception, and on an exception that is no offender."""
    offenders = set(offenders)
    assert offenders <= set(exceptions), f"against the rule: {sorted(offenders - set(exceptions))}"
    needless = set(exceptions) - offenders
    assert not needless, f"exceptions that are no longer needed: {sorted(needless)}"


def rooms_of(path):
    """The rooms that a file imports from."""
    return {name.split(".")[0] for name in imported_modules(path)} & set(MAY_IMPORT)


def test_imports_point_down():
    climbers = {
        path
        for path in map(name_of, PATHS)
        if not rooms_of(ROOT / path) <= MAY_IMPORT[path.split("/")[0]] | {path.split("/")[0]}
    }
    assert_only(climbers, UPWARD)


def test_only_readers_and_writers_touch_the_disk():
    def touches_the_disk(path):
        modules = {name.split(".")[0] for name in imported_modules(path)}
        return set(called_names(path)) & DISK_CALLS or modules & DISK_MODULES

    others = [path for path in PATHS if path.name not in DISK_ROOMS]
    others = [path for path in others if not path.name.endswith("_io.py")]
    assert_only(map(name_of, filter(touches_the_disk, others)), {})


def test_only_scripts_define_flags():
    users = {
        name_of(path)
        for path in PATHS
        if "absl" in {name.split(".")[0] for name in imported_modules(path)}
    }
    assert not {path for path in users if not path.startswith("scripts/")}


def test_one_file_knows_the_solver():
    users = {
        name_of(path)
        for path in PATHS
        if "jaxopt" in {name.split(".")[0] for name in imported_modules(path)}
    }
    assert_only(users - {SOLVER}, BESIDE_THE_SOLVER)


def test_what_lies_on_top_of_scripts_is_a_command():
    last = "if __name__ == '__main__':\n    command.run(main)"
    others = {name_of(path) for path in COMMANDS if ast.unparse(tree_of(path).body[-1]) != last}
    assert not others


def test_scripts_do_no_maths():
    users = {
        name_of(path)
        for path in (ROOT / "scripts").rglob("*.py")
        if path.parent.name != "benchmarks"
        and {"jax.numpy", "jax.jit", "stages.compiled"} & set(dotted_names(path))
    }
    assert_only(users, MATHS_IN_SCRIPTS)


def test_a_room_has_one_thing_to_a_public_name():
    homes = collections.Counter(
        (name_of(path).split("/")[0], node.name)
        for path in PATHS
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    )
    assert_only((name for name, count in homes.items() if count > 1), SAID_TWICE)


def test_files_are_short():
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in PATHS}
    assert_only((path for path, n in lengths.items() if n > MAX_FILE_LINES), LONG_FILES)


def test_functions_are_short():
    lengths = ((name, node.end_lineno - node.lineno + 1) for name, node in functions())
    assert_only((name for name, n in lengths if n > MAX_FUNCTION_LINES), LONG_FUNCTIONS)


def test_random_keys_come_first():
    late = set()
    for name, node in functions():
        arguments = [a for a in node.args.posonlyargs + node.args.args if a.arg != "self"]
        late |= {
            name
            for a in arguments[1:] + node.args.kwonlyargs
            if a.arg == "key" and (a.annotation is None or "Array" in ast.unparse(a.annotation))
        }
    assert not late


def test_every_folder_is_a_package():
    folders = {path.parent for path in PATHS}
    assert all((folder / "__init__.py").is_file() for folder in folders)
