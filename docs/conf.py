"""Configuration of the documentation site, which ``make docs`` builds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "airflow-provider-tallyfy"
author = "The airflow-provider-tallyfy authors"
version = release = __version__
copyright = author  # noqa: A001

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinxcontrib.mermaid",
]
exclude_patterns = ["README.md"]  # included by index.md

html_theme = "furo"
html_title = "Apache Airflow provider for Tallyfy"
html_copy_source = False

myst_heading_anchors = 4  # for links to headings, as on code hosts
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature has the types
autodoc_inherit_docstrings = False


def escape_parameter_names(*arguments: Any) -> None:
    """Keep the underscore at the end of ``with_``, which reStructuredText takes for a reference."""
    lines: list[str] = arguments[-1]
    lines[:] = [re.sub(r"^:param (\w+)_:", r":param \1\\_:", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect the function to Sphinx; Sphinx calls this."""
    app.connect("autodoc-process-docstring", escape_parameter_names)
