"""The results of an audit, as a table, JSON and HTML."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from structmat._util.files import finite
from structmat._util.text_table import Printed, Table, cell, in_html

Row: TypeAlias = dict[str, Any]

_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: #222 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }"""

_UNBROKEN = ' style="white-space:nowrap"'  # keeps numbers on one line

_NUMBERS = {
    "orthogonality_error": "|RᵀR − I|",
    "singular_value_drift": "singular values",
    "angle_drift": "angles",
    "energy_drift": "energy",
    "rounding_lost": "rounding",
    "merge_difference": "merged − unmerged",
}
_LEGEND = (
    ("angles by stage", "the largest angle by which a block of each stage rotates a plane"),
    ("|RᵀR − I|", "its largest entry, the deviation from orthogonality"),
    ("singular values", "their largest change, relative to the largest one"),
    ("angles", "the largest change of an angle between two neurons, in radians"),
    ("energy", "the relative change of the hyperspherical energy of the neurons"),
    ("rounding", "the fraction of the change that is lost by rounding when merging"),
    ("merged − unmerged", "the largest difference between outputs, relative to the largest output"),
)


@dataclass(frozen=True)
class Audit(Printed):
    """The results of an audit, layer by layer; `print` shows them as a table.

    Attributes
    ----------
    source : str
        The audited model or files.
    layers : dict of layer name → dict
        "network" and "side"; if there is a rotation, "orthogonality_error" and "stages", with the
        "largest" and "mean" angle of each in radians; if there is a pretrained weight,
        "singular_value_drift", "angle_drift", "energy" and "energy_drift"; if there are both,
        "rounding_lost"; for a layer in memory whose outputs can be compared, "merge_difference";
        and "warnings".
    """

    source: str
    layers: dict[str, Row]

    @property
    def warnings(self) -> list[str]:
        """All warnings, each with the name of its layer."""
        return [f"{name}: {text}" for name, row in self.layers.items() for text in row["warnings"]]

    def to_dict(self) -> dict[str, Any]:
        """Return the results as a JSON-serialisable dict, in which non-finite values are None."""
        found: dict[str, Any] = finite({"source": self.source, "layers": self.layers})
        return found

    def _parts(self) -> list[object]:
        header, rows = self._table()
        legend = [f"{name}: {meaning}" for name, meaning in self._legend()]
        warnings = [f"warning: {text}" for text in self.warnings]
        return [self.source, "", Table(header, rows, left=(0, 1)), "", *legend, *warnings]

    def _repr_html_(self) -> str:
        header, rows = self._table()
        head = "".join(cell("th", name, _title(name)) for name in header)
        words = header.index("angles by stage") if "angles by stage" in header else 1
        body = [
            "".join(cell("td", text, _UNBROKEN * (k > words)) for k, text in enumerate(row))
            for row in rows
        ]
        warnings = "".join(f"<li>{html.escape(text)}</li>" for text in self.warnings)
        return in_html([head, *body]) + (f"\n<ul>{warnings}</ul>" if warnings else "")

    def to_html(self) -> str:
        """Return the results as a complete HTML page.

        Examples
        --------
        >>> Audit("an adapter", {}).to_html().splitlines()[0]
        '<!doctype html>'
        """
        legend = "".join(
            f"<li>{html.escape(name)}: {html.escape(meaning)}</li>"
            for name, meaning in self._legend()
        )
        title = html.escape(f"structmat: audit of {self.source}")
        return "\n".join(
            [
                "<!doctype html>",
                f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
                f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
                self._repr_html_(),
                f"<ul>{legend}</ul></body></html>",
                "",
            ]
        )

    def _legend(self) -> list[tuple[str, str]]:
        """Return the name and the meaning of each column in the table."""
        header, _ = self._table()
        return [(name, meaning) for name, meaning in _LEGEND if name in header]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = list(self.layers.values())
        numbers = [key for key in _NUMBERS if any(key in row for row in rows)]
        angles = any("stages" in row for row in rows)
        header = ["layer", "rotates", *(["angles by stage"] if angles else [])]
        header += [_NUMBERS[key] for key in numbers]
        body = []
        for name, row in self.layers.items():
            line = [name, f"{row['side']}, {row['network']}"]
            if angles:
                line.append(_angles(row.get("stages", [])))
            line += [f"{row[key]:.1e}" if key in row else "—" for key in numbers]
            body.append(line)
        return header, body


def _angles(stages: list[dict[str, float]]) -> str:
    return " ".join(f"{math.degrees(stage['largest']):.0f}°" for stage in stages) or "—"


def _title(name: str) -> str:
    meaning = dict(_LEGEND).get(name)
    return f' title="{html.escape(meaning)}"' if meaning else ""
