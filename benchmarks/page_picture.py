"""The picture of the page in the README, in both languages: weights that ship and one of their test pictures, in Debian's Chromium.

python benchmarks/page_picture.py
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def look_at_boot(page: Page) -> None:
    """Give the page the picture of the ankle boot, point at a pixel of it, and wait for what the page says of it."""
    page.locator("input[type=file]").first.set_input_files(PICTURES / "ankle-boot.png")
    page.get_by_text("Ankle boot").first.wait_for()
    picture = page.locator("canvas").first
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.62 * box["height"])
    page.wait_for_timeout(1500)
    page.evaluate("window.scrollTo(0, 0)")


def main() -> None:
    """Serve, look, and take the pictures."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    command = [sys.executable, "-m", "torchnin", "serve", "fashion-mnist-small", "--port", "8765"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stderr is not None
            while "http://" not in (line := server.stderr.readline()):
                assert line, "the service did not begin"
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            for locale, ending in (("en-GB", ".png"), ("zh-CN", ".zh-CN.png")):
                page = browser.new_page(viewport={"width": 1200, "height": 860}, device_scale_factor=1.25, locale=locale)
                page.goto("http://127.0.0.1:8765/")
                look_at_boot(page)
                page.screenshot(path=PICTURES / f"page{ending}")
            browser.close()
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
