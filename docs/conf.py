"""The documentation site: ``python -m sphinx -W --keep-going docs build/site``, without network."""

from __future__ import annotations

import builtins
import re
from typing import Any, List, Optional, Tuple

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import vllm_client
from vllm_client._habits import _Habit

project = "vllm_client"
author = "the vllm_client authors"
project_copyright = f"2026, {author}"
release = version = vllm_client.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["build", "results.json"]
html_theme = "furo"
html_title = f"vllm_client {version}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
# The anchors that a repository host gives to headings, so that links work in both places.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
# In signatures of sixty fields nobody would read them.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Raises, while it is read", "Raises")]

suppress_warnings = [
    "ref.python",  # Attributes of several classes have the same name.
]

COLON = "\ue000"
"""Stands for a colon while napoleon reads a docstring; no text has this character."""


def skip_habits(_: Sphinx, what: str, name: str, member: object, *rest: Any) -> Optional[bool]:
    """Leave out the names of other clients, which raise an error with a hint."""
    return True if isinstance(member, _Habit) else None


def readable_defaults(
    _: Sphinx,
    what: str,
    name: str,
    member: object,
    options: Any,
    signature: Optional[str],
    *rest: Any,
) -> Optional[Tuple[Optional[str], None]]:
    """Write a default that stands for "not given" as an ellipsis."""
    shown = signature and re.sub(r"=(Ellipsis|<object object>)", "=…", signature)
    return (shown, None) if shown != signature else None


def hide_colon(
    _: Sphinx, what: str, name: str, member: object, options: Any, lines: List[str]
) -> None:
    """Keep napoleon from reading what precedes a colon as the type of an attribute."""
    if lines and what in ("attribute", "data", "property"):
        lines[0] = lines[0].replace(":", COLON)
    # A page of the repository is a page of the site.
    lines[:] = [re.sub(r"``docs/([\w-]+)\.md``", r":doc:`/\1`", line) for line in lines]


def show_colon(
    _: Sphinx, what: str, name: str, member: object, options: Any, lines: List[str]
) -> None:
    """Undo hide_colon()."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def unlink_namesakes(_: Sphinx, doctree: nodes.document) -> None:
    """Keep ``bytes`` and the headers of a call from becoming links to others of that name."""
    namesakes = {*dir(builtins), "Headers"}
    for reference in list(doctree.findall(addnodes.pending_xref)):
        if reference.get("reftype") == "class" and reference["reftarget"] in namesakes:
            reference.replace_self(reference.children)


def setup(app: Sphinx) -> None:
    """Connect the functions above; napoleon reads docstrings at priority 500."""
    app.connect("autodoc-skip-member", skip_habits)
    app.connect("autodoc-process-signature", readable_defaults)
    app.connect("autodoc-process-docstring", hide_colon, priority=400)
    app.connect("autodoc-process-docstring", show_colon, priority=600)
    app.connect("doctree-read", unlink_namesakes)
