"""Settings of the documentation; the build needs no network."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from docutils.nodes import Text, literal_block
from nbclient import NotebookClient
from sphinx.util.inspect import TypeAliasForwardRef

import structmat
from structmat.cli import _parser

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # catalogue and theory/ are not installed
import atlas_page  # noqa: E402
import catalogue  # noqa: E402
import fit_targets as fits  # noqa: E402
import learning_rates_study  # noqa: E402
import links  # noqa: E402
import quantisation_study  # noqa: E402
import scaling as growth  # noqa: E402
import theory  # noqa: E402
import vector_search_study  # noqa: E402
from docs.method_study import figures, sample_size  # noqa: E402
from docs.method_study.json_lines import read as runs_in  # noqa: E402
from structmat.explorer.html import page as explorer_page  # noqa: E402
from structmat.explorer.saved_networks import precomputed  # noqa: E402

# Sphinx reads only below docs/.
NOTEBOOKS = HERE / "notebooks"
SOURCES = {path.name: path for path in (HERE.parent / "notebooks").glob("*.ipynb")}
LIBRARY = max(path.stat().st_mtime for path in Path(structmat.__file__).parent.rglob("*.py"))


def execute(source):
    """Write the notebook with its outputs, unless that was done since it or the library changed."""
    target = NOTEBOOKS / source.name
    if target.exists() and target.stat().st_mtime > max(source.stat().st_mtime, LIBRARY):
        return
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,  # seconds per cell; only stops hangs
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        store_widget_state=False,  # pages show the recorded sliders
    )
    client.execute()  # raises for a cell that fails
    nbformat.write(notebook, target)


NOTEBOOKS.mkdir(exist_ok=True)
for copied in NOTEBOOKS.glob("*.ipynb"):  # delete copies of renamed notebooks
    if copied.name not in SOURCES:
        copied.unlink()
with ThreadPoolExecutor(2) as pool:
    list(pool.map(execute, SOURCES.values()))


def claims():
    """Yield the table of the claims of theory/, then a section for each: title, status, text."""
    yield theory.table(files=False)  # each file is named above its claim
    for claim in theory.claims():
        head = f"## {claim.NUMBER}. {theory.title(claim)}"
        yield f"{head}\n\n*{claim.STATUS}* (`theory/{theory.name(claim)}.py`)"
        for part in claim.__doc__.strip().split("\n\n")[1:]:
            yield part if part.startswith("    ") else part.replace("_", "\\_")  # no emphasis


def commands():
    """Yield a section for the help of each command."""
    os.environ["COLUMNS"] = "90"  # as wide as argparse writes
    [parsers] = _parser()._subparsers._group_actions
    for command, parser in parsers.choices.items():
        yield f"## structmat {command}\n\n```text\n{parser.format_help().strip()}\n```"


def scaling():
    """Return the tables of the recorded run of docs/scaling.py."""
    return growth.tables(json.loads(growth.PATH.read_text("utf-8")))


def fit_targets():
    """Return the tables of the recorded run of docs/fit_targets.py."""
    return fits.tables(json.loads(fits.PATH.read_text("utf-8")))


def quantisation():
    """Return the tables of the recorded run of docs/quantisation_study.py."""
    return quantisation_study.tables(json.loads(quantisation_study.PATH.read_text("utf-8")))


def vector_search():
    """Return the tables of the recorded run of docs/vector_search_study.py."""
    return vector_search_study.tables(json.loads(vector_search_study.PATH.read_text("utf-8")))


def method_study_sample():
    """Return the tables of the sample size of the method study."""
    return sample_size.tables(runs_in(sample_size.PATH))


def method_study():
    """Return the results of the method study; its figures are written next to them."""
    folder = HERE / "generated" / "method-study"
    return figures.sections(runs_in(figures.PATH), folder, "generated/method-study")


def learning_rates():
    """Return the tables of the recorded run of docs/learning_rates_study.py."""
    return learning_rates_study.tables(json.loads(learning_rates_study.PATH.read_text("utf-8")))


def atlas():
    """Return the table of the atlas."""
    return atlas_page.page()


def families():
    """Return the catalogue of families; its pictures are written next to it."""
    return catalogue.page(HERE / "generated" / "families", "generated/families")


(HERE / "generated").mkdir(exist_ok=True)
for pages in (
    atlas,
    claims,
    commands,
    scaling,
    fit_targets,
    learning_rates,
    quantisation,
    vector_search,
    method_study_sample,
    method_study,
    families,
):
    path = HERE / "generated" / f"{pages.__name__}.md"
    text = "\n\n".join(pages()) + "\n"
    if not path.exists() or path.read_text("utf-8") != text:  # unchanged pages are not rebuilt
        path.write_text(text, encoding="utf-8")

project = "structmat"
author = "the structmat developers"
copyright = author
version = release = structmat.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",  # MathJax is copied next to the pages
    "sphinx_copybutton",
]
exclude_patterns = [
    "results",
    "generated",
    "notebooks/.ipynb_checkpoints",
    "jupyter_execute",
]
default_role = "literal"  # `code` in a docstring
html_theme = "furo"
html_title = f"structmat {version}"
html_static_path = ["_static"]
html_css_files = ["custom.css", "notebooks.css"]
html_logo = "_static/logo.svg"
html_favicon = "_static/icon.svg"
EXPLORER = HERE / "generated" / "explorer" / "explorer.html"  # in the folder of the other pages
EXPLORER.parent.mkdir(exist_ok=True)
EXPLORER.write_text(explorer_page(saved=precomputed()), encoding="utf-8")
html_extra_path = ["generated/explorer"]

autodoc_member_order = "bysource"  # the order of __all__
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
TypeAliasForwardRef.__repr__ = lambda self: self.name  # in unions, too
autodoc_type_aliases = {
    name: name for name in ("Array", "Blocks", "Index", "Targets", "Topology", "npt.ArrayLike")
}
napoleon_google_docstring = False
napoleon_use_rtype = False

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Shapes such as (width, width) look like references to attributes, several of which may match.
suppress_warnings = ["ref.python"]
# `make links` accesses the network; `python docs/links.py` lists the links that it checks.
linkcheck_timeout = 15
linkcheck_retries = 2
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1)"]

nb_execution_mode = "force"  # a cache would not notice that the library changed
nb_execution_excludepatterns = ["notebooks/*"]  # those are executed above, two at a time
nb_execution_timeout = 600  # seconds per cell; only stops hangs
nb_execution_raise_on_error = True
nb_merge_streams = True  # all that a cell prints is one output
nb_ipywidgets_js = {}  # these scripts are on the network, and need a kernel
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]


def prepare(_app, what, name, _obj, _options, lines):
    """Escape vertical bars and reject a colon that napoleon misreads."""
    if what in ("property", "attribute") and lines and ":" in lines[0]:
        raise ValueError(f"{name}: napoleon reads 'a: b' as 'type: description'; use a comma")
    example = False
    for k, line in enumerate(lines):
        example = line.strip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            lines[k] = line.replace("|", r"\|")  # or |x| would name a substitution


def trim(_app, doctree):
    """Remove the empty line at the end of an example in Markdown, which only doctest needs."""
    for block in doctree.findall(literal_block):
        block.rawsource = block.astext().rstrip("\n")  # highlighted only if equal to the text
        block[:] = [Text(block.rawsource)]


def check_offline(app, error):
    """Reject built pages that cannot be read without a network."""
    for page in [] if error else sorted(Path(app.outdir).rglob("*.html")):
        for address in links.unavailable(page):
            raise ValueError(
                f"{page} loads {address}, which the build did not write; have it copied"
            )


def setup(app):
    # This extension only copies files, but does not declare that pages can be read in parallel.
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True
    app.connect("autodoc-process-docstring", prepare, priority=400)
    app.connect("doctree-read", trim)
    app.connect("build-finished", check_offline)
