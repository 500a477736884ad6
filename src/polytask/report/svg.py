"""A matplotlib figure as SVG that can stand inside an HTML page.

What matplotlib writes is meant for a file of its own. Inside a page its style sheet would style the
whole page, its identifiers would clash with those of the next figure, and its colours would not
follow the page's light and dark. The functions here take the drawing apart and put it together
again; text stays text and is escaped.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BAND",
    "BETTER",
    "INK",
    "LINE",
    "MUTED",
    "PAPER",
    "SERIES",
    "WORSE",
    "new_figure",
    "settings",
    "to_svg",
]

#: Colours that stand for a variable of the page's style sheet, so that one drawing serves light and
#: dark. Nobody would choose these values; they are looked for in the finished drawing.
THEME = {
    "#010102": "ink",
    "#010103": "muted",
    "#010104": "line",
    "#010105": "band",
    "#010108": "paper",
    "#010106": "better",
    "#010107": "worse",
    "#010111": "series-1",
    "#010112": "series-2",
    "#010113": "series-3",
    "#010114": "series-4",
    "#010115": "series-5",
    "#010116": "series-6",
}
COLOUR_OF = {name: colour for colour, name in THEME.items()}
INK, MUTED, LINE, BAND, PAPER, BETTER, WORSE = (
    COLOUR_OF[name] for name in ("ink", "muted", "line", "band", "paper", "better", "worse")
)
SERIES = tuple(colour for name, colour in COLOUR_OF.items() if name.startswith("series"))

#: Points per inch of matplotlib's SVG: a figure of 72 x 72 of our units is one inch wide.
UNITS_PER_INCH = 72
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "polytask",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "path.simplify_threshold": 0.2,
}
NUMBER = re.compile(r"-?\d+\.\d{2,}")
REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")
UNWANTED = {"metadata", "style"}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in CSS pixels; nothing global is touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / UNITS_PER_INCH, height / UNITS_PER_INCH), dpi=UNITS_PER_INCH)


def settings() -> dict[str, object]:
    """The matplotlib settings under which figures are built and drawn (for ``rc_context``)."""
    return dict(SETTINGS)


def to_svg(
    figure: Figure, *, key: str, label: str, full_names: Mapping[str, str] | None = None
) -> str:
    """The figure as one ``<svg>`` element for an HTML page; the same figure gives the same text.

    Args:
        figure: Made with ``new_figure`` under ``settings``.
        key: Unique in the page; put before every identifier.
        label: What a reader who cannot see it should know.
        full_names: Full text for texts that were shortened, shown when the pointer rests on them.
    """
    root = ElementTree.fromstring(_draw(figure))
    referenced = {
        name
        for element in root.iter()
        for value in element.attrib.values()
        for name in _references(value)
    }
    for parent in root.iter():
        for child in [c for c in parent if _local(c.tag) in UNWANTED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.tail = None
        _tidy(element, key, referenced)
        full = (full_names or {}).get(element.text or "") if element.tag == "text" else None
        if full is not None and full != element.text:
            ElementTree.SubElement(element, "title").text = full
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib = {
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": label,
        "style": f"--native:{width}px",
    }
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _draw(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # matplotlib only measures here; the browser has fonts for the scripts that its own lacks.
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from .*font")
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _references(value: str) -> list[str]:
    return [first or second for first, second in REFERENCE.findall(value)]


def _tidy(element: ElementTree.Element, key: str, referenced: set[str]) -> None:
    """Prefix identifiers that are used, drop the others, shorten numbers, use theme colours."""
    attributes = {}
    for name, value in element.attrib.items():
        plain = _local(name)
        if plain == "id":
            if value in referenced:
                attributes["id"] = f"{key}-{value}"
        elif plain == "style":
            attributes["style"] = _themed(value)
        elif plain == "href":
            # The other kind is an image's data, which matplotlib breaks into lines.
            attributes["href"] = (
                f"#{key}-{value[1:]}" if value[0] == "#" else "".join(value.split())
            )
        elif plain == "clip-path":
            attributes["clip-path"] = value.replace("url(#", f"url(#{key}-")
        elif not (plain == "transform" and value.startswith("rotate(-0 ")):
            attributes[plain] = " ".join(_rounded(value).split())
    element.attrib = attributes
    if element.tag != "text" and not (element.text or "").strip():
        element.text = None


def _themed(style: str) -> str:
    """A style with our variables for the theme's colours; fonts are left to the page."""
    kept = []
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name in ("", "font-family"):
            continue
        if name == "font":
            kept.append(f"font-size:{value.split()[0]}")
        elif name in ("fill", "stroke") and value in THEME:
            kept.append(f"{name}:var(--{THEME[value]})")
        else:
            kept.append(f"{name}:{_rounded(value)}")
    return ";".join(kept)


def _rounded(text: str) -> str:
    return NUMBER.sub(lambda match: f"{float(match[0]):.1f}", text)
