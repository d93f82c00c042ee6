"""README's picture of the page that `numroberta view` writes.

    python scripts/figures/view_picture.py scripts/figures/view.png

Needs playwright (the extra `view`) and Chromium.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from numroberta.cli import main as numroberta

try:
    from playwright.sync_api import sync_playwright
except ImportError as error:
    raise SystemExit(f"this needs {error.name}: run `pip install '.[view]'`") from None

TEXT = "The cat sat on the <mask>, and nobody thought it would ever get up again."
LAYER, HEAD, TOKEN = 5, 3, 6  # what <mask> looks at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", metavar="FILE.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "view.html"
        numroberta(["view", TEXT, "-o", str(page_file)])
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 900})
        page.goto(page_file.as_uri())
        page.locator("#heads button").nth(LAYER * 13 + HEAD).click()  # 12 heads and their mean in a row
        page.locator("#looks button").nth(TOKEN).click()
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")  # boxes are measured from the window's corner
        box = page.locator("#attention").bounding_box()
        assert box
        page.screenshot(
            path=options.picture,
            full_page=True,
            clip={"x": 0, "y": box["y"], "width": 1240, "height": box["height"] + 20},
        )
        browser.close()


if __name__ == "__main__":
    main()
