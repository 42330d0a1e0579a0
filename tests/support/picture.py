"""The picture of the page that README shows, of servers that nobody has: make picture."""

import os
import pathlib
import tempfile
import time

from tests.support import browser, minion, overviews

PICTURE = minion.REPOSITORY / "docs/report.png"
SERVERS = (1, 3, 5, 7, 10, 11, 13, 14, 17, 22, 26, 28, 32, 33, 37)
WIDTH, HEIGHT = 1280, 1110


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory() as place, browser.started() as chromium:
        path = pathlib.Path(place) / "report.html"
        modules = minion.loaders(minion.options(pathlib.Path(place), test=False)).modules
        report = overviews.report(modules, ((overviews.name_of(one), overviews.answer(one)) for one in SERVERS))
        modules["qmail_doublebounce_page.write"](str(path), report)
        with browser.Page(chromium, path, WIDTH, height=HEIGHT) as shown:
            shown.page.screenshot(path=PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
