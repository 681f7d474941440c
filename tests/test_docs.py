"""What the documents print runs as printed: commands, their flags and files, Python snippets.

The quick tests read; the slow ones run every line in a folder of its document, in order. Whatever
is printed and not run stands in `NOT_RUN`, with the reason.
"""

import ast
import contextlib
import importlib
import pathlib
import re

import commands
import printed
import pytest
from absl import flags
from absl.testing import flagsaver
from printed import DOCUMENTS, OWN, ROOT, Line

from render import shapes
from sim.scene_io import SHIPPED

NAMES = {"default", "people", *SHIPPED, *shapes.NAMES}  # values of input flags that are no files
NOT_RUN = {  # line: reason
    "make demo": "the slow test of `demo` runs it; make would install",
    "make test": "runs this test",
    "make quick": "runs tests",
    "make test-all": "runs this test",
    "python -m scripts.train_prior --family=stalk --out=out/stalk": "takes an hour; has a test of "
    "its own",
    "python -m scripts.learn_material --splats=plant --scene=plant_swaying --regions=2": "takes "
    "minutes; has a test of its own",
    "python -m scripts.learn_material --splats=ball --scene=ball_bounce "
    "--prior=reference:film.mp4": "takes minutes; a trajectory's has a test of its own",
    "python -m scripts.train_stylegan --people --preset=cpu --out=out/heads": "takes an hour; has "
    "a test of its own",
    "python -m scripts.train_stylegan --people --adversarial "
    "--start=out/heads/generator.safetensors --pool=out/heads/pool --out=out/sharp": "likewise",
    "python -m scripts.import_stylegan --network=ffhq.pkl --out=out/ffhq": "the reader's own file; "
    "has a test of its own",
    "python -m scripts.train_face_id --out=out/face_id": "takes half an hour; has a test of its "
    "own",
    "make lint": "needs no running to be true",
    ".venv/bin/python -m pytest -n0 tests/test_mpm.py": "runs tests",
    ".venv/bin/python -m pytest -n0 tests/test_mpm.py -k momentum": "runs tests",
    "source .venv/bin/activate": "of the reader's shell",
    "pip install -e .[view]": "would install",
    "pip install -e .[sfm]": "would install",
    "python -m scripts.fetch_features": "would fetch 64 MB; has a test of its own",
    "python -m scripts.prepare_capture --video=me.mp4 --masks=person --out=out/capture": "wants "
    "COLMAP, which has a test of its own",
    "python -m scripts.prepare_capture --images=photos --frames=150 --out=out/photos": "likewise",
    "python -m scripts.train_splats --capture=out/capture --width=400 --out=out/scene": "reads "
    "what the line before writes",
    "python -m scripts.evaluate_fit --tune --out=out/tune": "takes an hour; has a test of its own",
    "python -m scripts.reconstruct --photo=me.jpg --model=model2019_face12.h5 --out=out/me": "the "
    "model is not to be had without registration; files of its layout are read in test_assets",
}
# Added to what is printed, so that it is done in seconds.
SMALL = {
    "reconstruct": ["--frames=2", "--size=64", "--texture_size=256"],
    "render": ["--size=64", "--frames=3"],
    "train_splats": ["--count=100", "--steps=20", "--width=48"],
    "train_nerf": ["--steps=4", "--rays=64", "--width=48", "--frames=2"],
    "evaluate_fit": ["--faces=1", "--methods=mean,inner"],
    "simulate": ["--frames=2", "--size=64", "--max_particles=200"],
    "annotate_paths": ["--open=false", "--seconds=0.2"],
    "view": ["--open=false", "--seconds=0.2"],
    "invert": ["--steps=2", "--tune_steps=2"],
    "learn_material": ["--values=5", "--noises=1", "--film_frames=2", "--size=32"],
}
LINES = [line for document in DOCUMENTS for line in printed.printed(document)]
INLINE = [line for document in DOCUMENTS for line in printed.inline(document)]
SNIPPETS = [(document, text) for document in DOCUMENTS for text in printed.snippets(document)]
OURS = [line for line in LINES if line.command]
FIRST = {str(line): line for line in reversed(OURS)}  # where it is printed first
RUN = [line for line in OURS if FIRST[str(line)] is line and str(line) not in NOT_RUN]


def manual_lines():
    """The examples in the commands' manuals."""
    for name in commands.NAMES:
        text = (ROOT / "scripts" / f"{name}.py").read_text()
        text = ast.get_docstring(ast.parse(text), clean=False).replace("\\\n", " ")
        for line in re.findall(r"^ +(python -m scripts\.[^#\n]*)", text, re.M):
            yield Line(f"scripts/{name}.py", tuple(line.split()))


def parse(line):
    """Has absl read the flags of a line, as the command would."""
    assert line.command in commands.NAMES, f"no command {line.command}"
    module = commands.load(line.command)
    with flagsaver.flagsaver():
        if line.arguments == ("--help",):
            return
        stray = flags.FLAGS([module.__name__, *line.arguments])[1:]
    assert not stray, stray


@pytest.mark.parametrize("line", [*OURS, *INLINE, *manual_lines()], ids=str)
def test_printed_commands_exist_and_take_their_flags(line):
    parse(line)


@pytest.mark.parametrize("line", [line for line in LINES if not line.command], ids=str)
def test_other_printed_lines_are_about_what_is_there(line):
    match line.words:
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
        case ["source", ".venv/bin/activate"]:
            assert "VENV := .venv\n" in (ROOT / "Makefile").read_text()
        case ["pip", "install", "-e", what]:
            extra = what.removeprefix(".[").removesuffix("]")
            assert re.search(rf"^{extra} =$", (ROOT / "setup.cfg").read_text(), re.M)
        case [".venv/bin/python", "-m", "pytest", "-n0", path, *more]:
            assert (ROOT / path).is_file()
            assert not more or f"{more[1]}" in (ROOT / path).read_text()
        case _:
            pytest.fail(f"nobody checks {line}")


def test_nothing_that_is_printed_goes_unchecked():
    languages = {language for document in DOCUMENTS for language, _ in printed.blocks(document)}
    assert languages <= {"sh", "python", ""}
    assert {
        text
        for document in DOCUMENTS
        for language, text in printed.blocks(document)
        if not language
    } == {text for _, text in printed.blocks("docs/architecture.md")}
    for document in DOCUMENTS:  # no fence is missed, or left open
        fences = re.findall(r"^ *(?:```|~~~)", (ROOT / document).read_text(), re.M)
        assert len(fences) == 2 * len(printed.blocks(document)), document
    lines = {str(line) for line in LINES}
    assert set(NOT_RUN) <= lines, "reasons for what is no longer printed"
    assert {str(line) for line in LINES if not line.command} <= set(NOT_RUN)


def writers(path, before):
    """The lines among those before that write a file: so they say, or their commands' manuals."""
    found = []
    for line in before:
        manual = commands.load(line.command).__doc__ if line.command else ""
        for out in line.outputs:
            is_inside = path.startswith(f"{out}/") and pathlib.Path(path).name in manual
            if path == out or is_inside:
                found.append(line)
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_printed_commands_read_what_is_the_readers_or_was_written_before(document):
    lines = printed.printed(document)
    # README comes first: what its lines write, the others may read.
    known = [] if document == "README.md" else [line for line in OURS if line[0] == "README.md"]
    for number, line in enumerate(lines):
        for path in line.inputs:
            is_known = path in NAMES or path in OWN or writers(path, known + lines[:number])
            assert is_known, f"{line} reads {path}, which no line before has written"


@pytest.mark.parametrize("document, text", SNIPPETS)
def test_snippets_import_what_there_is(document, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A folder for each document."""
    folders = {document: tmp_path_factory.mktemp("printed") for document in DOCUMENTS}
    return folders.__getitem__


def provide(paths, folder):
    """Makes the files that are not there yet: the reader's own, or README's."""
    for path in paths:
        is_there = any(folder.glob(path))
        if path in NAMES or is_there:
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path in OWN:
            if path == "trajectory.npz":
                provide(["flowers.ply"], folder)
            OWN[path](folder / path)
        else:
            run(writers(path, OURS)[0], folder)


def run(line, folder):
    provide(line.inputs, folder)
    is_alone = line.command in ("train_splats", "train_nerf")  # they part the cores
    start = commands.run_alone if is_alone else commands.run
    arguments = [*line.arguments, *SMALL.get(line.command, [])]
    done = start(line.command, *arguments, folder=folder)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    # On a page the reader decides whether to write.
    has_page = "; Ctrl-C ends" in done.stdout
    for out in () if has_page else line.outputs:
        assert (folder / out).exists(), line
    assert not list(folder.rglob(".*")), line


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN, ids=str)
def test_printed_commands_run(line, folder_of):
    run(line, folder_of(line.document))


@pytest.mark.slow
@pytest.mark.parametrize("document, text", SNIPPETS)
def test_snippets_run(document, text, folder_of):
    folder = folder_of(document)
    provide([name for name in OWN if f'"{name}"' in text], folder)
    with contextlib.chdir(folder):
        exec(compile(text, document, "exec"), {"__name__": "__main__"})
