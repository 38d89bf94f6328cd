"""The fingerprint of unfinished work: settings, inputs and the code that is imported, found without a list."""

import subprocess
import sys

import pytest

from matscout.resume import fingerprint as fingerprints
from matscout.resume.fingerprint import SOURCES, code_files, code_hash, fingerprint, is_undeciding

WORK = ("matscout.training.train_member", "matscout.discovery.screen.screen", "matscout.graphs.featurize")


@pytest.mark.parametrize("module", WORK)
def test_every_file_that_python_loads_is_found(module):
    """Python's own list of what it has loaded is the oracle."""
    code = f"import sys, {module}; print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('matscout')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    found = {str(file) for file in code_files(module)}
    missing = {file for file in loaded if not is_undeciding(SOURCES.joinpath(file))} - found
    assert {file for file in missing if not file.endswith("__init__.py")} == set()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `matscout` of five files, of which `work` imports two, one of them within a function."""
    folder = tmp_path / "matscout"
    (folder / "rooms").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "errors.py": "",
        "work.py": "import matscout.errors\nfrom matscout.rooms import near\n",
        "other.py": "",
        "rooms/__init__.py": "",
        "rooms/near.py": "def late():\n    from matscout.rooms.far import value\n",
        "rooms/far.py": "value = 1\n",
        "rooms/aside.py": "",
        "rooms/table.csv": "1\n",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(fingerprints, "SOURCES", tmp_path)
    fingerprints.imported_files.cache_clear()
    code_hash.cache_clear()
    yield folder
    fingerprints.imported_files.cache_clear()
    code_hash.cache_clear()


def changed(package, name):
    code_hash.cache_clear()
    before = code_hash("matscout.work")
    (package / name).write_text((package / name).read_text() + "# more\n")
    code_hash.cache_clear()
    return code_hash("matscout.work") != before


def test_code_is_what_is_imported_and_the_data_beside_it(package):
    names = ["rooms/__init__.py", "rooms/far.py", "rooms/near.py", "rooms/table.csv", "work.py"]
    assert [file.relative_to(package).as_posix() for file in code_files("matscout.work")] == names
    assert [name for name in [*names, "errors.py", "other.py", "rooms/aside.py"] if changed(package, name)] == names


def test_a_folder_stands_for_all_of_its_files(package):
    assert package / "rooms/aside.py" in code_files("matscout.rooms")


def test_an_unknown_module_is_rejected(package):
    with pytest.raises(ModuleNotFoundError, match=r"matscout\.nowhere"):
        code_files("matscout.nowhere")


def test_settings_inputs_and_libraries_count_and_nothing_else(tmp_path):
    (tmp_path / "input").write_text("1")

    def key(settings=1, *, content="1", libraries=("numpy",)):
        (tmp_path / "input").write_text(content)
        return fingerprint({"a": settings}, inputs=[tmp_path / "input"], code=["matscout.crystal"], libraries=libraries)

    assert key() == key()
    assert len({key(), key(2), key(content="2"), key(libraries=("numpy", "pandas"))}) == 4
