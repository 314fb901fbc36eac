"""Take the screenshot of the explorer for the documentation: python docs/explorer_picture.py."""

import io
import shutil
import threading
from pathlib import Path

from PIL import Image

from structmat.explorer.server import Server

PATH = Path(__file__).parent / "_static" / "explorer.png"


def take(path: Path = PATH) -> None:
    """Save a screenshot with the pointer on a wire, in few colours, which suffice for a drawing."""
    from playwright.sync_api import sync_playwright

    with Server() as server, sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = chromium.new_page(
            viewport={"width": 1120, "height": 850}, color_scheme="light", reduced_motion="reduce"
        )
        page.goto(server.address)
        page.wait_for_selector("#dimension .value:not(.waiting)")
        page.locator('.node[data-column="0"][data-wire="5"]').hover()
        picture = Image.open(io.BytesIO(page.screenshot()))
        chromium.close()
        server.shutdown()
    picture.convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    take()
