"""The pictures of the README, from a run, a sweep and an MLflow server that shows them.

python docs/pictures.py RUN_DIR SWEEP_DIR http://127.0.0.1:5000
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
CHROMIUM = "/usr/bin/chromium"
NO_PANELS = """try {
    localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')
    localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')
    localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"')
} catch (refused) {}"""


def opened(browser: Browser, address: str, width: int, height: int) -> Page:
    """A page of the given size, in pixels."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.add_init_script(NO_PANELS)
    page.goto(address)
    return page


def keep(page: Page, name: str) -> None:
    """Write what the page shows as a PNG of 128 colours."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128).save(IMAGES / f"{name}.png", optimize=True)


def main(run_dir: str, sweep_dir: str, mlflow: str) -> None:
    """Make report.png, sweep.png and mlflow.png."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, path in (
            ("report", Path(run_dir, "report.html")),
            ("sweep", Path(sweep_dir, "sweep_report.html")),
        ):
            keep(opened(browser, path.absolute().as_uri(), 1180, 820), name)
        view = "#/experiments/1/runs?viewStateShareKey=bookends&workflowType=machine_learning"
        page = opened(browser, f"{mlflow}/{view}", 1500, 560)
        page.get_by_text(Path(run_dir).name).first.wait_for()
        page.wait_for_timeout(2000)
        keep(page, "mlflow")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
