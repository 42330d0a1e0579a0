"""A page in a headless Chromium that reaches nothing: what it shows, says and asks for."""

import contextlib
import shutil

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# It is root's in CI, there is no graphics, and it has nobody to talk to.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
)
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", seen => window.violations.push(seen.violatedDirective));
"""
# Rows that are out of sight are laid out, too, and have text: all at once, and not one by one as they are asked.
LAID_OUT = 'document.querySelectorAll("tr").forEach(row => { row.style.contentVisibility = "visible"; })'
# What is visible and reaches beyond the window, or beyond its own cell.
OVERFLOWS = """
() => {
  const wide = document.documentElement.clientWidth, found = [];
  for (const one of document.querySelectorAll("body *")) {
    const box = one.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    const isOut = box.right > wide + 1 || box.left < -1;
    const isCut = one.clientWidth && one.scrollWidth > one.clientWidth + 1 && one.matches("td, th, li, p, dd");
    if (isOut || isCut) found.push(`${one.outerHTML.slice(0, 120)}: from ${box.left} to ${box.right} of ${wide}`);
    if (found.length > 9) break;
  }
  if (document.documentElement.scrollWidth > wide) found.push("the page scrolls to the side");
  return found;
}
"""


def missing():
    """Say why there is no browser, if so."""
    try:
        import playwright.sync_api  # noqa: F401 - only whether it is there
    except ImportError:
        return "playwright is not installed"
    return None if program() else f"there is none of {', '.join(NAMES)}: Debian has the package chromium"


def program():
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def started():
    """A browser, with a directory of its own that goes with it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Page:
    """One page in a window of its own."""

    def __init__(self, browser, path, width=1440, scheme="light", script=True, height=900):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, java_script_enabled=script
        )
        self.context.set_default_timeout(600_000)  # ms: for what hangs, not for ten thousand rows
        self.page, self.said, self.asked = self.context.new_page(), [], []
        self.page.add_init_script(WATCH)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(f"{error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.url = path.as_uri()
        self.page.goto(self.url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def troubles(self):
        """Return what the page said on its console, ran against its own policy, or asked for beside itself."""
        others = [url for url in self.asked if url != self.url]
        return [*self.said, *self.page.evaluate("window.violations"), *others]

    def overflows(self):
        self.page.evaluate(LAID_OUT)
        return self.page.evaluate(OVERFLOWS)

    def texts(self, selector):
        """Return the text of all elements, as it is in the document, in one line each."""
        found = self.page.eval_on_selector_all(selector, "all => all.map(one => one.textContent)")
        return [" ".join(text.split()) for text in found]

    def rows(self, selector="#servers tbody tr"):
        """Return the texts of the cells of each row that is shown."""
        self.page.evaluate(LAID_OUT)
        return self.page.eval_on_selector_all(
            selector,
            "rows => rows.filter(row => !row.hidden)"
            ".map(row => [...row.cells].map(cell => cell.innerText.replace(/\\s+/g, ' ').trim()))",
        )
