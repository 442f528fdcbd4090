"""The documentation site: ``python -m sphinx -W --keep-going docs build/site``, without network."""

from __future__ import annotations

import vllm_client

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

myst_enable_extensions = ["colon_fence", "deflist"]
# The anchors that a repository host gives to headings, so that links work in both places.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Raises, while it is read", "Raises")]

suppress_warnings = [
    "myst.header",  # results.md is generated from the third level on.
    "ref.python",  # Attributes of several classes have the same name.
]
