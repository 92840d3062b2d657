"""Sphinx configuration."""

from __future__ import annotations

import lightning_al

project = "lightning-al"
author = "The lightning-al developers"
copyright = "2026, The lightning-al developers"
release = lightning_al.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "lightning-al"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# What Lightning's own classes document is Lightning's.
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# The docstrings' examples run as part of the test suite; here only those of the pages.
doctest_test_doctest_blocks = ""
suppress_warnings = ["ref.python"]
