"""The notebooks: no outputs in Git, thin, and executed from top to bottom in a repository like a user's."""

import json
import re

import pytest
from imports import ROOT

NAMES = ("01_data_download", "02_graph_construction", "03_ensemble_training", "04_high_throughput_screening")


def cells(name, kind):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_these_are_all():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_committed(name):
    for cell in cells(name, "code"):
        assert cell["outputs"] == [], source(cell)
        assert cell["execution_count"] is None, source(cell)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_teaches_and_how_long_it_takes(name):
    opening = source(cells(name, "markdown")[0])
    assert "This notebook shows" in opening
    assert "It takes" in opening


@pytest.mark.parametrize("name", NAMES)
def test_it_is_thin(name):
    code = "\n".join(source(cell) for cell in cells(name, "code"))
    assert set(re.findall(r"^(?:from|import) (matscout\S*)", code, re.MULTILINE)) == {"matscout"}
    assert max(len(source(cell).splitlines()) for cell in cells(name, "code")) <= 30


@pytest.mark.parametrize("name", NAMES)
def test_every_file_it_points_to_is_there(name):
    text = "\n".join(source(cell) for cell in cells(name, "markdown"))
    for path in re.findall(r"`((?:docs/|\d\d_)\S+?\.(?:md|ipynb))`", text):
        folder = ROOT / "notebooks" if path.endswith(".ipynb") else ROOT
        assert (folder / path).is_file(), path


def execute(clone, name):
    """The notebook with its outputs, run by Jupyter's own client in the folder where a user opens it."""
    written = clone.root / "notebooks" / ".cache" / "run" / f"{name}.ipynb"
    written.parent.mkdir(parents=True, exist_ok=True)
    clone.run("jupyter", "execute", f"notebooks/{name}.ipynb", f"--output={written}")
    notebook = json.loads(written.read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return outputs


def printed(outputs):
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def figures(outputs):
    return [
        data["application/vnd.plotly.v1+json"]
        for o in outputs
        if "application/vnd.plotly.v1+json" in (data := o.get("data", {}))
    ]


@pytest.fixture(scope="module")
def executed(tiny):
    """After `make repro`: everything is there and nothing of the pipeline runs again."""
    return {name: execute(tiny, name) for name in NAMES}


@pytest.mark.slow
def test_after_a_run_nothing_of_the_pipeline_runs_again(executed, tiny):
    for name in NAMES[:3]:
        assert tiny.stages_run(printed(executed[name])) == [], name
        assert "didn't change" in printed(executed[name])


@pytest.mark.slow
def test_every_figure_holds_data(executed):
    for name in NAMES:
        assert figures(executed[name])
        for figure in figures(executed[name]):
            assert figure["data"]
            assert all("x" in trace or "nodes" in trace for trace in figure["data"])


@pytest.mark.slow
def test_the_ensemble_of_the_run_is_the_one_that_is_loaded(executed):
    assert "6 members predict" in printed(executed["03_ensemble_training"])


@pytest.mark.slow
def test_a_file_that_cannot_be_used_is_told(executed):
    assert "cut_off.cif" in printed(executed["04_high_throughput_screening"])


@pytest.mark.slow
def test_a_second_time_the_small_member_is_loaded(executed, tiny):
    weights = tiny.root / "notebooks/.cache/members/cgcnn/weights.safetensors"
    before = weights.stat().st_mtime_ns
    execute(tiny, "03_ensemble_training")
    assert weights.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_fresh_clone_makes_what_it_lacks(tiny, tmp_path):
    """Without the run, the third notebook trains three small members and the fourth predicts with them."""
    from tiny_clone import make_clone

    fresh = make_clone(tmp_path / "fresh clone")
    assert {"curate", "featurize", "split"} <= set(fresh.stages_run(printed(execute(fresh, "03_ensemble_training"))))
    execute(fresh, "04_high_throughput_screening")
    assert not (fresh.root / "data/members").exists()
