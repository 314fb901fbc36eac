"""Every notebook runs from top to bottom, with the answers to its prompts, and draws plots.

The answers are cells of their own, with assertions, so running a notebook checks them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.timeouts import PATIENCE

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PROMPT = "**Try it.**"
WIDGET = "application/vnd.jupyter.widget-view+json"
LARGEST = 1_000_000  # characters of the recorded sliders of a page


@pytest.fixture(scope="session")
def nbformat():
    """The library, which takes six seconds to import."""
    import nbformat

    return nbformat


def test_notebooks_are_numbered_in_reading_order():
    assert NOTEBOOKS
    assert [int(path.name[:2]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path, nbformat):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_prompt_is_followed_by_a_collapsed_answer(path, nbformat):
    """Jupyter reads `jupyter`, and the documentation `tags` and `mystnb`."""
    kinds = []
    for cell in nbformat.read(path, as_version=4).cells:
        if "hide-cell" in cell.metadata.get("tags", []):
            assert cell.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
            assert cell.metadata.mystnb["code_prompt_show"] == "Answer"
            kinds.append("answer")
        elif PROMPT in cell.source:
            kinds.append("prompt")
    assert kinds
    assert kinds == ["prompt", "answer"] * (len(kinds) // 2)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs_and_draws_a_plot(path, executed, nbformat):
    notebook = of_the_documentation(path, nbformat)
    outputs = executed(path) if notebook is None else outputs_of(notebook)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    shown = [output.get("data", {}) for output in outputs]
    sliders = [data for data in shown if "structmat-slider" in data.get("text/html", "")]
    assert all(WIDGET in data for data in sliders)
    assert sum(len(data["text/html"]) for data in sliders) < LARGEST


@pytest.mark.slow
def test_the_notebook_on_custom_topologies_runs_with_another_graph(executed):
    """The notebook suggests this; the graph has fourteen stages and named nodes."""
    [path] = FOLDER.glob("04_*.ipynb")
    executed(path, ("nx.dodecahedral_graph()", "nx.davis_southern_women_graph()"))


def of_the_documentation(path, nbformat):
    """Return the notebook that the build of the documentation executed, unless it is older."""
    built = ROOT / "docs" / "notebooks" / path.name
    sources = [path, *(ROOT / "structmat").rglob("*.py")]
    if not built.exists() or built.stat().st_mtime <= max(p.stat().st_mtime for p in sources):
        return None
    notebook = nbformat.read(built, as_version=4)
    cells = [nbformat.read(path, as_version=4).cells, notebook.cells]
    return notebook if [c.source for c in cells[0]] == [c.source for c in cells[1]] else None


def outputs_of(notebook):
    """Return the outputs of all cells."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.fixture
def executed(tmp_path, monkeypatch, nbformat):
    """Return a function: run a notebook, with one text replaced, and return all outputs."""
    from nbclient import NotebookClient

    def execute(path, replaced=None):
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # nothing of the user's profile
        notebook = nbformat.read(path, as_version=4)
        if replaced is not None:
            old, new = replaced
            assert any(old in cell.source for cell in notebook.cells)
            for cell in notebook.cells:
                cell.source = cell.source.replace(old, new)
        NotebookClient(
            notebook, timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()  # raises for a cell that fails
        return outputs_of(notebook)

    return execute
