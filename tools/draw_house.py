"""Draw the packages of polytask and what imports what, from the imports in the code itself.

    python tools/draw_house.py            # writes docs/images/house.svg
    python tools/draw_house.py --check    # exit status 1 if the picture is not that of the code

A box is a package; an arrow points from a package to one that it imports.
An arrow that another way already implies is left out.
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from polytask.code import import_graph  # noqa: E402 - found in src above

PICTURE = ROOT / "docs" / "images" / "house.svg"
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 124, 36, 26, 44, 20
#: Serves every room and would only hide the others' arrows.
EVERYWHERE = frozenset({"_version", "code", "config", "files"})


def package_arrows() -> dict[str, set[str]]:
    """Every subpackage and the subpackages that its files import."""
    arrows: dict[str, set[str]] = {}
    for name, imported in import_graph().items():
        rooms = [module.split(".")[1] for module in (name, *imported) if "." in module]
        if "." not in name or rooms[0] in EVERYWHERE:
            continue
        others = arrows.setdefault(rooms[0], set())
        others |= {room for room in rooms[1:] if room not in EVERYWHERE} - {rooms[0]}
    return arrows


def reach(arrows: Mapping[str, set[str]], start: str) -> set[str]:
    """All packages that one leads to."""
    waiting, seen = list(arrows[start]), set()
    while waiting:
        room = waiting.pop()
        if room not in seen:
            seen.add(room)
            waiting += arrows[room]
    return seen


def reduced(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that no other way implies."""
    return {
        room: {
            other
            for other in others
            if not any(other in reach(arrows, middle) for middle in others - {other})
        }
        for room, others in arrows.items()
    }


def rows_of(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """The packages row by row: each stands right below the lowest of those that import it.

    Raises:
        ValueError: Packages import each other.
    """
    for room in arrows:
        if room in reach(arrows, room):
            raise ValueError(f"The package {room!r} imports itself by way of others.")
    importers = {room: {r for r, others in arrows.items() if room in others} for room in arrows}
    depth: dict[str, int] = {}
    while len(depth) < len(arrows):
        for room, above in importers.items():
            if above <= set(depth):
                depth[room] = max((depth[other] + 1 for other in above), default=0)
    return [sorted(r for r in arrows if depth[r] == k) for k in range(max(depth.values()) + 1)]


def places(arrows: Mapping[str, set[str]]) -> dict[str, tuple[float, float]]:
    """Upper left corner of every box; a row is in the order of what imports its boxes."""
    rows = rows_of(arrows)
    width = max(len(row) for row in rows) * (WIDTH + GAP_X) - GAP_X
    found: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        middle = {room: middle_of_importers(room, arrows, found) for room in row}
        left = MARGIN + (width - (len(row) * (WIDTH + GAP_X) - GAP_X)) / 2
        for k, room in enumerate(sorted(row, key=lambda r: (middle[r], r))):
            found[room] = (left + k * (WIDTH + GAP_X), MARGIN + number * (HEIGHT + GAP_Y))
    return found


def middle_of_importers(
    room: str, arrows: Mapping[str, set[str]], placed: Mapping[str, tuple[float, float]]
) -> float:
    """Mean x of the boxes above that point here."""
    above = [x for other, (x, _) in placed.items() if room in arrows[other]]
    return sum(above) / len(above) if above else 0.0


def arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A line from the lower edge of one box to the upper edge of another."""
    x, y = start[0] + WIDTH / 2, start[1] + HEIGHT
    to_x, to_y = end[0] + WIDTH / 2, end[1] - 2
    bend = (to_y - y) * 0.45
    path = f"M{x:g},{y:g} C{x:g},{y + bend:g} {to_x:g},{to_y - bend:g} {to_x:g},{to_y:g}"
    return f'<path class="arrow" d="{path}" marker-end="url(#tip)"/>'


def box(room: str, place: tuple[float, float]) -> str:
    """A package with its name."""
    x, y = place
    middle = x + WIDTH / 2
    return (
        f'<rect class="room" x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{middle:g}" y="{y + HEIGHT / 2 + 5:g}">{html.escape(room)}</text>'
    )


def picture() -> str:
    """The whole drawing as SVG."""
    arrows = reduced(package_arrows())
    place = places(arrows)
    width = max(x for x, _ in place.values()) + WIDTH + MARGIN
    height = max(y for _, y in place.values()) + HEIGHT + MARGIN
    drawn = [
        arrow(place[room], place[other])
        for room, others in sorted(arrows.items())
        for other in sorted(others)
    ]
    drawn += [box(room, place[room]) for room in sorted(arrows)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
        ' aria-label="Packages of polytask and their imports">\n'
        "<style>"
        "text{font:600 14px system-ui,sans-serif;text-anchor:middle;fill:#1d2733}"
        ".room{fill:#f4f7fb;stroke:#4c72b0;stroke-width:1.5}"
        ".arrow{fill:none;stroke:#8a97a6;stroke-width:1.3}"
        "</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#8a97a6"/></marker>'
        "</defs>\n"
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def main() -> int:
    """Write the picture, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    text = picture()
    if parser.parse_args().check:
        return int(not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != text)
    PICTURE.write_text(text, encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
