"""The page inside a notebook, which asks an object for its HTML."""

import html
import re
import shutil

import pytest

from numroberta import view

TEXTS = ["The cat sat on the <mask>.", 'A kitten & a "rug".']


def test_a_notebook_shows_the_page_in_a_frame_whose_scripts_stay_inside(tiny):
    shown = view.show(tiny, *TEXTS)
    assert shown == view.render(view.examine(tiny, TEXTS))  # the page is still a string, to be written to a file
    frame = shown._repr_html_()
    (inside,) = re.findall(r'^<iframe srcdoc="([^"]*)" ', frame)
    assert html.unescape(inside) == shown
    assert 'sandbox="allow-scripts"' in frame


def test_no_text_is_refused_as_by_examine(tiny):
    with pytest.raises(ValueError, match="0 texts, expected 1 to 12"):
        view.show(tiny)


def test_ipython_takes_the_page_for_html(tiny):
    formatters = pytest.importorskip("IPython.core.formatters", reason="needs IPython (pip install '.[notebook]')")
    shown = view.show(tiny, *TEXTS)
    data, _ = formatters.DisplayFormatter().format(shown)
    assert data["text/html"] == shown._repr_html_()


@pytest.mark.slow
def test_in_a_browser_the_frame_draws_the_heads(tiny, tmp_path):
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install '.[view]')")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    cell = tmp_path / "cell.html"
    cell.write_text(f"<!doctype html><body>{view.show(tiny, *TEXTS)._repr_html_()}</body>", "utf-8")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(cell.as_uri())
        heads = page.frame_locator("iframe").locator("#heads button")
        heads.first.wait_for(timeout=120_000)
        assert heads.count() == 6 * 13
        browser.close()
    assert complaints == []
