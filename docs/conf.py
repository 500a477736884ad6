"""How Sphinx builds the site; the methods table and the API pages are written first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import methods_table

import polytask

project = "Polytask"
author = "The Polytask developers"
copyright = f"2026, {author}"
version = release = polytask.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Polytask {version}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
default_role = "code"  # one backtick in a docstring is code, as in Markdown
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_custom_sections = [
    "Cost",
    "Needs",
    "Differences",
    ("Shapes", "params_style"),
]
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


def setup(app) -> None:  # noqa: ANN001 - Sphinx is not needed to read this file
    app.connect(
        "builder-inited", lambda _: methods_table.write(Path(__file__).parent / "_generated")
    )
