"""Build the documentation: `sphinx-build -W --keep-going -b html docs OUT`."""

import sys
from pathlib import Path

import latex2mathml.converter
from docutils import nodes

import spyketorch

sys.path.insert(0, str(Path(__file__).parent))
import drawing  # beside this file

project = "spyketorch"
author = "The spyketorch developers"
copyright = author
release = version = spyketorch.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["make_figures.py", "drawing.py"]

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are shown as they are stored
nb_merge_streams = True
nb_output_stderr = "remove"

add_module_names = False  # a page shows one module
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signatures stay readable; docstrings give shapes and ranges
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Reference", "Shape", ("Attributes", "params_style")]

nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(torch|numpy|matplotlib)\..*")]  # documented elsewhere

html_theme = "furo"
html_title = "spyketorch"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


def _math(translator, node):
    """Equations as MathML, which browsers draw by themselves: no script, no network."""
    display = "block" if node.tagname == "math_block" else "inline"
    mathml = latex2mathml.converter.convert(node.astext(), display=display)
    translator.body.append(f'<div class="equation">{mathml}</div>' if display == "block" else mathml)
    raise nodes.SkipNode


def _link_code(app, doctree, docname):
    """Code that names something of the library becomes a link to it; on GitHub it is plain code."""
    known = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        entry = known.get(literal.astext()) or known.get(f"spyketorch.{literal.astext()}")
        if entry is not None and not isinstance(literal.parent, nodes.reference):
            target = f"{app.builder.get_relative_uri(docname, entry.docname)}#{entry.node_id}"
            literal.replace_self(nodes.reference("", "", literal.deepcopy(), internal=True, refuri=target))


def _write_drawing(app, exception):
    """What the page "Draw a digit" loads; pages are the same without node."""
    if exception is None and app.builder.format == "html":
        drawing.write(Path(app.outdir) / "_static" / "draw")


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-resolved", _link_code)
    app.connect("build-finished", _write_drawing)
    app.add_html_math_renderer("mathml", (_math, None), (_math, None))


html_math_renderer = "mathml"
