"""The guide: its code runs, and its index names pages and classes that exist."""

import inspect
import re
from pathlib import Path

import pytest

import skae
import skae.inspection
from skae.autoencoders._base import BaseAutoencoder

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
PAGES = sorted(path for path in GUIDE.glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_A_PAGE = {"AutoencoderTransformer", "LogisticPCA", "DenoisingAE", "VAE", "ConvAE", "AdversarialAE"}
pytestmark = pytest.mark.skipif(not PAGES, reason="not a checkout")


def index() -> dict[str, list[str]]:
    """The classes that the rows of the index name, and the pages of each."""
    made = {}
    for row in re.findall(r"^\| `.*$", (GUIDE / "README.md").read_text(encoding="utf-8"), re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row.split("|")[1]):
            made[name] = re.findall(r"\]\(([^)]+)\)", row)
    return made


@pytest.fixture
def short_training(monkeypatch):
    """Default fits of a tenth of the steps: the code runs with any number, and benchmarks say what they reach."""
    monkeypatch.setattr("skae.autoencoders._fitting.MIN_STEPS", 200)
    monkeypatch.setattr("skae.autoencoders._fitting.MAX_STEPS", 2000)
    monkeypatch.setattr("skae.imputation._defaults.FEW_VISITS", 25_600)
    monkeypatch.setattr("skae.anomaly._detector.N_STEPS", 300)
    monkeypatch.setattr("skae.anomaly._detector.N_STEPS_OF_SEVERAL", 100)


@pytest.mark.usefixtures("short_training")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names = {"__name__": page.stem}
    for block in BLOCK.finditer(text):
        # As many empty lines before it as in the page, so that a traceback names the page's line.
        above = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(above + block[1], str(page), "exec"), names)


def test_the_index_names_pages_and_classes_that_exist():
    for name, pages in index().items():
        assert name in (*skae.__all__, *skae.inspection.__all__)
        assert pages, f"no page beside {name}"
        for page in pages:
            assert BLOCK.search((GUIDE / page).read_text(encoding="utf-8")), f"{page} has no code to run"


def test_classes_that_have_a_page():
    public = {name for name, made in vars(skae).items() if inspect.isclass(made) and issubclass(made, BaseAutoencoder)}
    assert WITH_A_PAGE <= public
    assert not WITH_A_PAGE - index().keys(), f"without a page: {sorted(public - index().keys())}"
