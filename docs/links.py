"""Check the links of the documentation: targets within the repository must exist.

Built pages load nothing from other sites, so they can be read without a network.

`python docs/links.py` prints the links to other sites, each with the pages that contain it. Only
`make links` accesses the network.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

ROOT = Path(__file__).parents[1]
PAGES = (
    "atlas",
    "claims",
    "commands",
    "families",
    "fit_targets",
    "learning_rates",
    "method_study",
    "method_study_sample",
    "quantisation",
    "scaling",
    "vector_search",
)
MADE = {"explorer.html", *(f"generated/{page}.md" for page in PAGES)}  # by docs/conf.py

FENCED = re.compile(r"^([`~]{3,})(.*?)^\1\s*$", re.M | re.S)
SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.S)
FILE = re.compile(r"\{(?:image|figure|include)\}\s+(\S+)")
WRITTEN = (
    re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)"),  # [text](target)
    re.compile(r"(?:src|href)=\"([^\"]+)\""),
    re.compile(r"<(https?://[^>\s]+)>"),
)
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|object)\b[^>]*?\s(?:src|href|data)=\"([^\"]*)"
)


def pages() -> list[Path]:
    """Return every file that may contain links."""
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "theory" / "README.md"]
    found += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "notebooks").glob("*.ipynb"))
    return [*found, *sorted(ROOT.glob("CONTRIBUTING.md")), *sorted(ROOT.glob("SECURITY.md"))]


def prose(page: Path) -> str:
    """Return the Markdown text of a page, without the code of notebooks."""
    text = page.read_text("utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def links(text: str) -> list[str]:
    """Return the targets of the links and images of a text, grouped by kind.

    >>> links("[a](b.md#c), `[no](x)`, <https://d.org>, ![p](q.svg)")
    ['b.md#c', 'q.svg', 'https://d.org']
    """
    files = [match[1] for block in FENCED.finditer(text) if (match := FILE.match(block[2]))]
    text = SPAN.sub("", FENCED.sub("", text))
    return files + [match for pattern in WRITTEN for match in pattern.findall(text)]


def anchors(text: str) -> set[str]:
    r"""Return the anchors of a page: its headings as MyST and GitHub name them, and its labels.

    >>> sorted(anchors("# What is x_1?\n(here)=\n## A `b` c\n## A `b` c"))
    ['a-b-c', 'a-b-c-1', 'here', 'what-is-x_1']
    """
    text = FENCED.sub("", text)
    found = set(re.findall(r"^\(([\w-]+)\)=\s*$", text, re.M))
    for heading in re.findall(r"^#{1,3}\s+(.+?)\s*#*\s*$", text, re.M):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names = itertools.chain([slug], (f"{slug}-{k}" for k in itertools.count(1)))
        found.add(next(name for name in names if name not in found))
    return found


def outside(target: str) -> bool:
    """Return whether a target is outside the repository."""
    return re.match(r"[a-z][a-z+.-]*:", target) is not None


def broken(page: Path) -> Iterator[str]:
    """Yield an error for each link of a page whose file or heading does not exist."""
    text = prose(page)
    for target in links(text):
        if outside(target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if page.is_relative_to(ROOT / "docs") and name.startswith("notebooks/"):
            path = ROOT / name  # conf.py copies them below docs/
        if name in MADE and page.parent == ROOT / "docs":
            continue
        if not path.is_relative_to(ROOT) or not path.exists():
            yield f"{target}: there is no {name}"
        elif anchor and path.suffix in (".md", ".ipynb"):
            there = text if path == page else prose(path)
            if anchor not in anchors(there):
                yield f"{target}: no heading of {path.name} is called {anchor}"


def unavailable(page: Path) -> Iterator[str]:
    """Yield the addresses of other sites and of missing files from which a built page loads."""
    for address in LOADED.findall(page.read_text("utf-8")):
        path = unquote(urldefrag(address).url.partition("?")[0])
        if not address.startswith("data:") and not (page.parent / path).exists():
            yield address


def main() -> int:
    """Print the links to other sites, each with the pages that contain it."""
    found: dict[str, list[str]] = {}
    for page in pages():
        for target in filter(outside, links(prose(page))):
            found.setdefault(target, []).append(str(page.relative_to(ROOT)))
    for target, where in sorted(found.items()):
        sys.stdout.write(f"{target}  {', '.join(dict.fromkeys(where))}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
