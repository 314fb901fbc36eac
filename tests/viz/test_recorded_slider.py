"""A slider records exactly the plots that its function draws, and selects the right one."""

from __future__ import annotations

import base64
import io
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

import structmat as sm
from structmat import viz

IMAGE = re.compile(
    r'<img (hidden )?(?:data-photograph )?src="data:image/png;base64,([^"]+)" alt="([^"]*)"'
)


def drawn(a, b=0):
    """Return a plot whose title and curve show the values."""
    ax = Figure(figsize=(2, 1)).add_subplot()
    ax.plot([0, 1], [a, b])
    ax.set_title(f"a is {a} & b is {b}")
    return ax


def test_recorded_pictures_are_the_plots_of_all_combinations():
    html = viz.slider(drawn, a=(1, 2), b=(-1, 0.5, 7))._repr_html_()
    images = IMAGE.findall(html)
    chosen = list(itertools.product((1, 2), (-1, 0.5, 7)))
    assert [alt for _, _, alt in images] == [f"a is {a} &amp; b is {b}" for a, b in chosen]
    assert [bool(hidden) for hidden, _, _ in images] == [False] + 5 * [True]
    assert len({data for _, data, _ in images}) == 6
    assert "http" not in html.replace("data:", "")


def test_recorded_pictures_equal_the_plots_up_to_the_number_of_colours():
    net = sm.butterfly(16)

    def spreading(depth):
        return viz.grid(net[:depth], inputs=0)

    slider = viz.slider(spreading, depth=range(1, 5))
    for depth, picture in enumerate(slider.pictures(), 1):
        recorded = imread(io.BytesIO(base64.b64decode(IMAGE.findall(picture)[0][1])))
        exact = io.BytesIO()
        spreading(depth).figure.savefig(exact, format="png", dpi=150)
        exact.seek(0)
        difference = np.abs(recorded[..., :3] - imread(exact)[..., :3])
        assert difference.mean() < 0.01
        assert difference.max() < 0.1


def test_every_movement_of_a_live_slider_calls_the_function():
    slider = viz.slider(lambda a, b: drawn(a, len(b)), a=(1, 2), b=("x", "yy"))
    controls, plot = slider.widget().children
    for k, (a, b) in enumerate(itertools.product((1, 2), ("x", "yy"))):
        for control, value in zip(controls.children, (a, b), strict=True):
            control.value = value
        assert slider.pictures()[k] in plot.value


def test_pictures_leave_no_pyplot_figure_open():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    viz.slider(lambda a: plt.subplots(figsize=(a, 1))[0], a=(1, 2)).pictures()
    assert plt.get_fignums() == before


def test_a_plot_without_title_is_described_by_its_values():
    slider = viz.slider(lambda **_: Figure(), some_depth=[0.25])
    assert 'alt="plot for some depth 0.25"' in slider.pictures()[0]


def test_photographs_are_not_inverted_in_dark_mode():
    def shown(colours, data):
        figure = Figure(figsize=(1, 1))
        figure.add_subplot().imshow(data, cmap=colours)
        return figure

    for colours, data, photograph in (
        ("gray", np.eye(2), True),
        (None, np.zeros((2, 2, 3)), True),
        ("RdBu", np.eye(2), False),
    ):
        html = viz.slider(shown, colours=[colours], data=[data]).pictures()[0]
        assert ("data-photograph" in html) == photograph


def test_a_kernel_displays_the_live_slider_and_keeps_the_recorded_one(monkeypatch):
    slider = viz.slider(drawn, a=(1, 2))
    assert set(slider._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.setattr("structmat.viz.recorded_slider._has_kernel", lambda: True)
    bundle = slider._repr_mimebundle_()
    assert bundle["text/html"] == slider._repr_html_()
    assert "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.parametrize(
    ("arguments", "values", "message"),
    [
        ((drawn,), {}, "without values: pass them by keyword"),
        ((drawn,), {"a": ()}, "slider a has no values"),
        ((drawn,), {"a": range(10), "b": range(7)}, "10×7 = 70 pictures: at most 60"),
        ((3,), {"a": (1,)}, "slider of 3: pass a function"),
    ],
)
def test_invalid_sliders_are_refused(arguments, values, message):
    with pytest.raises(sm.StructmatError, match=message):
        viz.slider(*arguments, **values)


def test_functions_must_return_a_plot():
    with pytest.raises(sm.StructmatError, match="plot of the function of type str"):
        viz.slider(lambda **_: "none", a=(1,)).pictures()


def test_sliders_need_neither_ipywidgets_nor_pyplot():
    code = (
        "import sys; sys.modules['ipywidgets'] = None; import structmat as sm;"
        "from structmat import viz;"
        "html = viz.slider(lambda depth: viz.grid(sm.butterfly(4, depth=depth)), depth=(1, 2))"
        "._repr_mimebundle_()['text/html'];"
        "assert html.count('<img') == 2 and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_keys_move_a_recorded_slider(context, tmp_path):
    """In a browser without network access, pictures, values and screen-reader text follow."""
    slider = viz.slider(drawn, a=(1, 2), b=(-1, 0.5, 7))
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><body>{slider._repr_html_()}", encoding="utf-8")
    page, faults = context().new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(path.as_uri())

    def state():
        shown = [image for image in page.locator("img").all() if image.is_visible()]
        texts = [one.text_content() for one in page.locator("output").all()]
        said = [one.get_attribute("aria-valuetext") for one in page.get_by_role("slider").all()]
        assert texts == said
        return [image.get_attribute("alt") for image in shown], texts

    assert state() == (["a is 1 & b is -1"], ["1", "−1"])
    page.get_by_label("b", exact=True).press("End")
    assert state() == (["a is 1 & b is 7"], ["1", "7"])
    page.get_by_label("a", exact=True).press("ArrowRight")
    assert state() == (["a is 2 & b is 7"], ["2", "7"])
    page.get_by_label("b", exact=True).press("ArrowLeft")
    assert state() == (["a is 2 & b is 0.5"], ["2", "0.5"])
    page.close()
    assert faults == []
