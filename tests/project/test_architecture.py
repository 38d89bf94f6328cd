"""The house stands as docs/architecture.md draws it: data flows one way, importing does nothing."""

import ast
import re
import subprocess
import sys

import pytest
from imports import ROOT, SRC, imported_files

PACKAGE = SRC / "matscout"
FLOW = (
    "sources",
    "curation",
    "potentials",
    "hypothetical",
    "graphs",
    "models",
    "training",
    "ensemble",
    "discovery",
    "report",
)
MAY_IMPORT = {
    "sources": set(),
    "curation": {"sources"},
    "potentials": set(),
    "hypothetical": {"potentials", "curation", "sources"},
    "graphs": set(),
    "models": {"graphs"},
    "training": {"models", "graphs"},
    "ensemble": {"training", "models", "graphs", "hypothetical", "potentials", "curation"},
    "discovery": {"ensemble", "models", "graphs", "hypothetical", "potentials", "curation", "sources"},
    "report": set(FLOW[:-1]),
}
FOUNDATION = {
    "columns",
    "compositions",
    "layout",
    "params",
    "errors",
    "files",
    "progress",
    "crystal",
    "crystal_checks",
    "curated_table",
    "engine",
    "resume",
}
TOP = {"__init__", "cli", "commands", "machine_code", "serving", "stage"}  # use everything, used by nothing below
LARGEST_ROOM = 15  # files
MOST_FILES = 190  # join what changes together instead of adding small files


def room_of(file):
    parts = file.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else file.stem


@pytest.mark.parametrize("room", FLOW)
def test_a_room_imports_only_from_rooms_before_it(room):
    allowed = MAY_IMPORT[room] | FOUNDATION | {room}
    for file in (PACKAGE / room).rglob("*.py"):
        reached = {room_of(target) for target in imported_files(file)} - {"__init__"}
        assert reached <= allowed, f"{file.relative_to(ROOT)} imports {sorted(reached - allowed)}"


def test_the_foundation_imports_only_the_foundation():
    for name in FOUNDATION:
        files = [PACKAGE / f"{name}.py"] if (PACKAGE / f"{name}.py").exists() else (PACKAGE / name).rglob("*.py")
        for file in files:
            reached = {room_of(target) for target in imported_files(file)} - {"__init__"}
            assert reached <= FOUNDATION, f"{file.relative_to(ROOT)} imports {sorted(reached - FOUNDATION)}"


def test_every_room_and_file_is_drawn():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert rooms | files == set(FLOW) | FOUNDATION | TOP


def files_of(folder):
    return [file for file in folder.rglob("*.py") if file.name != "__init__.py"]


def imports_between(place):
    """Imports among the places that `place` gives to files; of what stands in `__init__` counts its own folder."""
    graph = {}
    for file in PACKAGE.rglob("*.py"):
        graph.setdefault(place(file), set()).update(place(target) for target in imported_files(file))
    return {name: targets - {name} for name, targets in graph.items()}


def circle_in(graph):
    """Some circle of imports as a list of names, or an empty list."""
    finished = set()
    for start in graph:
        path, waiting = [], [iter([start])]
        while waiting:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                if path:
                    finished.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in finished:
                path.append(name)
                waiting.append(iter(sorted(graph.get(name, ()))))
    return []


def sub_room_of(file):
    """The sub-room, and for a file that lies directly in its room, the file."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return "/".join(parts[:2])


@pytest.mark.parametrize(
    ("graph", "circle"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
    ],
)
def test_the_check_for_circles_sees_them(graph, circle):
    assert circle_in(graph) == circle


@pytest.mark.parametrize("place", [lambda file: file, room_of, sub_room_of], ids=["files", "rooms", "sub-rooms"])
def test_no_imports_run_in_a_circle(place):
    assert circle_in(imports_between(place)) == []


@pytest.mark.parametrize("top", [PACKAGE, ROOT / "benchmarks", ROOT / "tests"], ids=lambda path: path.name)
def test_no_folder_is_crowded(top):
    for folder in {file.parent for file in files_of(top)}:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= LARGEST_ROOM, f"{folder.relative_to(ROOT)} holds {len(files)} files; make rooms in it"


def test_the_package_is_not_cut_into_more_files():
    assert len(files_of(PACKAGE)) <= MOST_FILES


def test_a_file_name_stands_for_one_file():
    names = [file.name for file in files_of(PACKAGE)]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_mlflow_stays_in_its_corner():
    importers = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow", file.read_text(), re.MULTILINE)
    }
    assert importers == {"training/tracking.py", "serving/register.py", "serving/served_model.py"}


def code_runners(tree):
    """Calls that can run code from a file: pickle and joblib loading, torch.load or numpy.load without their guard."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        unguarded = called == "torch.load" and options.get("weights_only") != "True"
        if (
            called.split(".")[-1] in {"read_pickle", "Unpickler"}
            or called.startswith(("pickle.load", "joblib.load", "dill.load", "cloudpickle.load"))
            or unguarded
            or options.get("allow_pickle") == "True"
        ):
            yield ast.unparse(node)


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "pickle.loads(b)",
        "pd.read_pickle(f)",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_the_check_for_code_runners_sees_them(code):
    assert list(code_runners(ast.parse(code)))


def test_nothing_runs_code_from_a_file():
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "stages").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        assert not list(code_runners(ast.parse(file.read_text()))), file.relative_to(ROOT)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, matscout; print(sorted({'torch', 'pymatgen', 'mlflow', 'pandas'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


READERS = {"read_parquet", "read_table", "read_schema", "ParquetFile"}


def reads_of_curated_tables(tree):
    """Calls that read a parquet file whose name says that it is a curated table."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    readers = [call for call in calls if ast.unparse(call.func).split(".")[-1] in READERS]
    return [call for call in readers if re.search(r"materials\b", ast.unparse(call.args[0]), re.IGNORECASE)]


@pytest.mark.parametrize("code", ["pd.read_parquet(materials)", "pq.read_table(root / MATERIALS, columns=names)"])
def test_the_check_for_readers_of_the_curated_table_sees_them(code):
    assert reads_of_curated_tables(ast.parse(code))


def test_one_class_reads_the_curated_table():
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").glob("*.py")]:
        found = [ast.unparse(call) for call in reads_of_curated_tables(ast.parse(file.read_text()))]
        assert not found, f"{file.relative_to(ROOT)}: {found}; use a view of CuratedTable"
