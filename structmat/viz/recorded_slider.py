"""Plots with sliders: live in Jupyter, and recorded for web pages, which have no kernel."""

from __future__ import annotations

import base64
import importlib.util
import io
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from structmat.errors import StructmatError, abbreviated, require
from structmat.viz.style import checked_axes, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawing = Callable[..., "Axes | Figure"]

_MOST = 60  # pictures that are recorded
_DPI, _SCALE = 100, 1.5  # CSS pixels per inch, and picture pixels per CSS pixel
_TINTS = 128  # colours of a picture, which reduce its size to a third

# In dark mode the lightness of a plot is inverted and its hues are kept; photographs stay as they
# are.
_STYLE = """<style>
.structmat-slider p {display: inline-flex; gap: .6em; align-items: center; margin: 0 1.5em .3em 0}
.structmat-slider label {display: inline-flex; gap: .6em; align-items: center}
.structmat-slider input {width: 12em; max-width: 40vw}
.structmat-slider img {max-width: 100%; height: auto; background: white}
.structmat-slider [hidden] {display: none !important}
body:is([data-theme=dark], [data-jp-theme-light=false])
.structmat-slider img:not([data-photograph]) {filter: invert(.93) hue-rotate(180deg)}
@media (prefers-color-scheme: dark) {body[data-theme=auto]
.structmat-slider img:not([data-photograph]) {filter: invert(.93) hue-rotate(180deg)}}
</style>"""

# Each slider has a stride: the pictures are in the order of itertools.product.
_SCRIPT = (
    "let k=0;"
    "for(const r of this.querySelectorAll('input')){"
    "const v=JSON.parse(r.dataset.values)[r.value];"
    "r.setAttribute('aria-valuetext',v);r.parentElement.nextElementSibling.value=v;k+=r.value*r.dataset.stride}"
    "this.querySelectorAll('img').forEach((p,i)=>p.hidden=i!==k)"
)


@dataclass(frozen=True)
class Slider:
    """Plots of a function for all combinations of the values of its sliders.

    Notebooks display it with sliders that call the function if ipywidgets is installed, and with
    recorded pictures where there is no kernel, as on a page of documentation.
    """

    draw: Drawing
    values: dict[str, tuple[Any, ...]]

    def pictures(self) -> list[str]:
        """Return the `<img>` elements for all combinations; the last slider varies fastest."""
        every = itertools.product(*self.values.values())
        return [self.picture(**dict(zip(self.values, chosen, strict=True))) for chosen in every]

    def picture(self, **chosen: Any) -> str:
        """Return the plot for one combination as an `<img>` element, described by its title."""
        drawn: Any = self.draw(**chosen)
        figure: Any = drawn
        if not isinstance(drawn, require("matplotlib.figure", "plot").Figure):
            figure = checked_axes(drawn, "plot of the function").figure
        width, height = (round(_DPI * inches) for inches in figure.get_size_inches())
        data, small = io.BytesIO(), io.BytesIO()
        figure.savefig(data, format="png", dpi=_SCALE * _DPI)
        if "matplotlib.pyplot" in sys.modules:  # otherwise notebooks display the figure twice
            sys.modules["matplotlib.pyplot"].close(figure)
        image = require("PIL.Image", "plot")  # a dependency of matplotlib
        limited = image.open(data).convert("RGB").quantize(_TINTS, image.Quantize.MAXCOVERAGE)
        limited.save(small, "PNG", optimize=True)
        titles = [figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)]
        named = ", ".join(f"{_label(name)} {_written(chosen[name])}" for name in chosen)
        alt = "; ".join(filter(None, titles)).replace("\n", " ") or f"plot for {named}"
        source = base64.b64encode(small.getvalue()).decode()
        photographs = any(_is_photograph(image) for ax in figure.axes for image in ax.images)
        return (
            f"<img {'data-photograph ' if photographs else ''}"
            f'src="data:image/png;base64,{source}" alt="{escape(alt)}"'
            f' width="{width}" height="{height}">'
        )

    def _repr_html_(self) -> str:
        """Return sliders and all pictures, which need neither a kernel nor a network connection."""
        stride, controls = math.prod(map(len, self.values.values())), []
        for name, values in self.values.items():
            stride //= len(values)
            texts = [_written(value) for value in values]
            controls.append(
                f'<p><label>{escape(_label(name))} <input type="range" value="0"'
                f' min="0" max="{len(values) - 1}" autocomplete="off"'
                f' aria-valuetext="{escape(texts[0])}" data-stride="{stride}"'
                f' data-values="{escape(json.dumps(texts))}"></label>'
                f"<output>{escape(texts[0])}</output></p>"
            )
        first, *others = self.pictures()
        hidden = [picture.replace("<img ", "<img hidden ", 1) for picture in others]
        names = ", ".join(_label(name) for name in self.values)
        return "\n".join(
            (
                f'<div class="structmat-slider" role="group" aria-label="plot by {escape(names)}"'
                f' oninput="{escape(_SCRIPT)}">',
                _STYLE,
                *controls,
                '<div aria-live="polite">',
                first,
                *hidden,
                "</div></div>",
            )
        )

    def widget(self) -> Any:
        """Return an ipywidgets box in which every movement of a slider calls the function.

        Raises
        ------
        MissingExtraError
            If ipywidgets is not installed.
        """
        widgets = require("ipywidgets", "explore")
        sliders = {
            name: widgets.SelectionSlider(
                options=[(_written(value), value) for value in values],
                description=_label(name),
                style={"description_width": "initial"},
            )
            for name, values in self.values.items()
        }
        plot = widgets.HTML()

        def update(_change: object = None) -> None:
            chosen = {name: slider.value for name, slider in sliders.items()}
            plot.value = f'{_STYLE}<div class="structmat-slider">{self.picture(**chosen)}</div>'

        for slider in sliders.values():
            slider.observe(update, "value")
        update()
        return widgets.VBox([widgets.HBox(list(sliders.values())), plot])

    def _repr_mimebundle_(self, **_options: Any) -> dict[str, Any]:
        """Return the recorded form, and the live one where a kernel can serve it."""
        recorded = {"text/plain": repr(self), "text/html": self._repr_html_()}
        return (self.widget()._repr_mimebundle_() if _has_kernel() else {}) | recorded

    def __repr__(self) -> str:
        options = ", ".join(
            f"{name}=[{', '.join(map(_written, values))}]" for name, values in self.values.items()
        )
        return f"slider({getattr(self.draw, '__name__', 'function')}, {options})"


def slider(draw: Drawing, /, **values: Iterable[Any]) -> Slider:
    """Display the plots of a function with one slider for each of its keywords.

    In Jupyter, moving a slider calls the function with the new value (this needs the extra
    `explore`). The output also contains the plots for all combinations of the values, so that
    a page made from the notebook has the same sliders without a kernel or a network connection.

    Parameters
    ----------
    draw : function of keywords that returns matplotlib Axes or a Figure
        Screen readers read the title of its plot.
    **values : iterable of numbers or str
        The values of each keyword, in the order of the slider; the first is shown at the start.

    Returns
    -------
    Slider
        A notebook displays it if it is the last line of a cell.

    Raises
    ------
    StructmatError
        If there is no slider, one has no values, or there are more than 60 combinations.

    Examples
    --------
    >>> import structmat as sm
    >>> from structmat import viz
    >>> def network(depth):
    ...     ax = viz.grid(sm.butterfly(16, depth=depth), inputs=0)
    ...     ax.set_title(f"{depth} stages: input 0 influences {2**depth} outputs")
    ...     return ax
    >>> viz.slider(network, depth=range(1, 5))
    slider(network, depth=[1, 2, 3, 4])
    """
    listed = {name: tuple(some) for name, some in values.items()}
    if not callable(draw):
        raise StructmatError(
            f"slider of {abbreviated(draw)}: pass a function of keywords that returns a plot, such"
            " as lambda depth: viz.grid(sm.butterfly(16, depth=depth))"
        )
    if not listed:
        raise StructmatError("slider without values: pass them by keyword, such as depth=(1, 2, 3)")
    for name, some in listed.items():
        if not some:
            raise StructmatError(f"slider {name} has no values: pass at least one")
    count = math.prod(map(len, listed.values()))
    if count > _MOST:
        sizes = "×".join(str(len(some)) for some in listed.values())
        raise StructmatError(
            f"slider with {sizes} = {count} pictures: at most {_MOST} are recorded;"
            " pass fewer values"
        )
    return Slider(draw, listed)


def _label(name: str) -> str:
    return name.replace("_", " ")


def _written(value: Any) -> str:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return written(float(value)).replace("-", "−") if number else str(value)


def _is_photograph(image: Any) -> bool:
    """Return whether an image in a plot is grey or has its own colours."""
    return bool(image.get_array().ndim == 3 or image.get_cmap().name == "gray")


def _has_kernel() -> bool:
    """Return whether this code runs in a Jupyter kernel and ipywidgets is installed."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive else None
    return hasattr(shell, "kernel") and importlib.util.find_spec("ipywidgets") is not None
