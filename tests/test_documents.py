"""What the documents show runs as it is printed, what they point to is there, and all that is public is listed."""

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHOWN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
PAGES = [*SHOWN, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "spyketorch" / "weights" / "README.md"]
PUBLIC = (ROOT / "tests" / "public_api.txt").read_text(encoding="utf-8").splitlines()

SNIPPETS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in SHOWN
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL), 1)
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippet(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


def prose(page):
    """The page without its code."""
    return re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page):
    """What GitHub and Sphinx call its headings."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_and_pictures_exist(page):
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if "://" in target:
            continue
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            missing.append(target)
    assert missing == []


def test_links_are_found_at_all():
    targets = [target for page in PAGES for target in re.findall(r"\]\(([^)\s]+)\)", prose(page))]
    assert "docs/engine.md" in targets and "images/wave.gif" in targets
    assert {"try-it", "ten-lines"} <= anchors(ROOT / "README.md")


def paragraphs(page):
    """Those of a page, or of the text of a notebook."""
    texts = [page.read_text(encoding="utf-8")]
    if page.suffix == ".ipynb":
        cells = json.loads(texts[0])["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return [paragraph.strip() for text in texts for paragraph in text.split("\n\n")]


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("**/*.ipynb"))], ids=lambda page: page.name)
def test_nothing_waits_to_be_filled_in(page):
    """While a page is written, a paragraph such as RESULTS holds a place."""
    assert [paragraph for paragraph in paragraphs(page) if re.fullmatch("[A-Z_]+", paragraph)] == []


def test_every_page_is_in_the_contents():
    """A page that no table of contents names cannot be reached."""
    pages = {page for page in SHOWN if page.parent.is_relative_to(ROOT / "docs")}
    listed = {ROOT / "docs" / "index.md"}
    for page in pages:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            listed |= {page.parent / f"{line}.md" for line in block.split() if not line.startswith(":")}
    assert pages - listed == set()


def test_every_plot_has_its_picture():
    text = (ROOT / "docs" / "api" / "visualization.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"\.\. auto\w+:: (\w+)\n(.*?)(?=\.\. auto|\Z)", text, re.DOTALL))
    plots = {name for name in blocks if re.match("plot|show|animate|Watch", name)}
    assert len(plots) == 11
    assert {name for name in plots if "](../images/" not in blocks[name]} == set()


#: what people type into the search of the site, and the page that answers
SOUGHT = {
    "data": "own images, ImageFolder, folder, DataLoader, memory",
    "one_image": "webcam, camera, one image at a time, web service, several threads",
    "colour": "colour, RGB",
    "events": "event, camera, DVS, neuromorphic",
    "sound": "sound, audio, speech, series, spectrogram",
    "sweeps": "sweep, seeds, several processes, grid search",
    "saving": "save, saving, loading, export, numpy, safetensors, weights",
    "compile": "torch.compile, torch.export",
    "gpu": "GPU, CUDA, slow",
    "threads": "threads, more than one core",
    "processes": "many processes, several cores, GPUs, machines",
    "faq": "slow, memory, confusion matrix, transfer, accuracy, None, cite, FAQ, SpykeTorch",
    "which_library": "library",
    "porting": "porting, SpykeTorch, script, before and after",
    "migration": "SpykeTorch",
    "training": "memory, mini-batches, homeostasis, does not learn, watching, stopping",
    "supervised": "supervised STDP, who fires first, published",
    "networks": "network, saving, devices, read-out",
}


@pytest.mark.parametrize("page", SOUGHT)
def test_a_page_is_found_by_the_words_people_use(page):
    """Words in headings count most for the search: it has them, whole or as the beginning of a word."""
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = " ".join(re.findall(r"^#+ (.*)$", text, re.MULTILINE)).lower()
    missing = [word for word in SOUGHT[page].split(", ") if not re.search(rf"\b{re.escape(word.lower())}", headings)]
    assert missing == []


def test_every_public_name_is_on_its_page_of_the_reference():
    missing = []
    for line in PUBLIC:
        module, _, name = re.match(r"(spyketorch(\.[a-z]+)?)\.(.*?)(?:\(|$)", line).groups()
        owner = value = getattr(importlib.import_module(module), name.partition(".")[0])
        for part in name.split(".")[1:]:
            value = getattr(value, part)
        face = re.split(r"\._|\.runtimes", owner.__module__)[0]  # some modules offer names of others
        home = module if face == "spyketorch" else face
        page = ROOT / "docs" / "api" / f"{home.removeprefix('spyketorch').lstrip('.') or 'index'}.md"
        shown = name.rpartition(".")[2]  # of a method, itself
        documented = value.__doc__ and not shown.startswith("__") and shown != "forward"
        if documented and not re.search(rf"\b{shown}\b", page.read_text(encoding="utf-8")):
            missing.append(f"{module}.{name}")
    assert missing == []
