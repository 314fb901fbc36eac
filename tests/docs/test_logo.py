"""The logo is the output of its script, and has contrast on light and dark pages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import structmat as sm

DOCS = Path(__file__).parents[2] / "docs"
spec = importlib.util.spec_from_file_location("logo", DOCS / "logo.py")
logo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(logo)


@pytest.mark.parametrize("name", ["logo", "icon"])
def test_the_file_is_the_output_of_the_script(name):
    assert (DOCS / "_static" / f"{name}.svg").read_text("utf-8") == getattr(logo, name)()


def test_the_logo_has_every_edge_and_colours_the_reached_wires():
    net = sm.butterfly(8)
    drawn = ET.fromstring(logo.logo())
    tag = "{http://www.w3.org/2000/svg}"
    paths, dots = list(drawn.iter(f"{tag}path")), list(drawn.iter(f"{tag}circle"))
    assert len(paths) == net.nonzeros
    assert len(dots) == net.width * (net.depth + 1)
    reached = 1 + sum(int(sm.reach(net[: t + 1])[:, 0].sum()) for t in range(net.depth))
    assert sum(dot.get("fill") != logo.QUIET for dot in dots) == reached == 1 + 2 + 4 + 8
    assert sum("stroke" in path.attrib for path in paths) == 2 + 4 + 8


@pytest.mark.parametrize("page", ["#FFFFFF", "#131416"])  # furo's backgrounds
def test_the_colours_of_the_logo_have_contrast(page):
    for colour in set(re.findall("#[0-9A-F]{6}", logo.logo())):
        lighter, darker = sorted(map(luminance, (colour, page)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour  # WCAG 2, for graphics


def luminance(colour):
    values = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
