"""
The page, in a headless Chromium: on a phone and on a wide screen, by day and by night, it shows the figures of the
report, needs nothing, runs nothing but its own script, and everybody can read it.
"""

import itertools
import re

import pytest

from tests.support import browser, needs, overviews

WIDTHS = (360, 768, 1440)
SCHEMES = ("light", "dark")
# Every width and every scheme once; the other pairs take longer than they are likely to show more.
FIRST = ((360, "dark"), (768, "light"), (1440, "light"))
WINDOWS = [
    pytest.param(*pair, marks=() if pair in FIRST else pytest.mark.soak) for pair in itertools.product(WIDTHS, SCHEMES)
]
MANY = 10_000
DETAILED = 200
# What a spammer, the owner of a mailbox or a broken minion may have written.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</td></table></style></script><img src=x onerror=alert(1)><svg onload=alert(1)>",
    "\"'><b onclick=alert(1)>&lt;&amp;<!-- -->",
    "{{ 7 * 7 }}{% raw %}{# #}${7}",
    "https://example.com/x javascript:alert(1)",
    "\u202edecrevni\u202c\u2066\u200f\ufeff\u0000\u0007\u001b[31m\r\nnext\u2028line",
    "\udcff\ud800 bytes",
    "مرحبا שלום mixed עם latin 123",
    "W" * 300,
    "x" * 40 + "." + "y" * 200 + "@" + "z" * 200 + ".example.com",
    "word " * 200,
    "",
)
WORDS = {
    "down": "down", "wrong": "wrong", "silent": "silent", "odd": "odd answer", "untold": "not known",
    "due": "restart due", "warned": "holds, but", "unset": "no pillar", "holds": "holds",
}  # fmt: skip


@pytest.fixture(scope="session")
def chromium():
    needs.skip_for(browser.missing())
    with browser.started() as started:
        yield started


@pytest.fixture(scope="session")
def made(loaders, tmp_path_factory):
    """Make the page of so many servers; return its path and the report that it shows."""
    modules, place, known = loaders.modules, tmp_path_factory.mktemp("pages"), {}

    def made(name, returns):
        if name not in known:
            report = overviews.report(modules, returns())
            modules["qmail_doublebounce_page.write"](str(place / f"{name}.html"), report)
            known[name] = place / f"{name}.html", report
        return known[name]

    return made


@pytest.fixture
def fleet(made):
    def fleet(number):
        return made(
            f"of-{number}",
            lambda: [(overviews.name_of(one), overviews.answer(one)) for one in range(1, number + 1)],
        )

    return fleet


@pytest.fixture
def hostile(made):
    """A fleet in which each text of each answer is hostile, and the names are, too."""

    def spoiled(value, text):
        if isinstance(value, dict):
            return {key: spoiled(one, text) for key, one in value.items()}
        if isinstance(value, list):
            return [spoiled(one, text) for one in value]
        return text if isinstance(value, str) else value

    def returns():
        for place, text in enumerate(HOSTILE):
            for number in (1, 3, 7, 13, 19, 23, 31):
                said = spoiled(overviews.answer(number), text)
                if isinstance(said, dict):
                    known = {"mode": "sink", "fate": "stored", "error": text if number == 31 else None}
                    said.update(known)
                yield f"{text[:60]}{place}-{number}", said

    return made("hostile", returns)


def axe(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page.page).response["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]


def expected(row, now, place):
    """What the cells of a row say, by an account of its own."""
    figures = row["double_bounces"] is not None
    state = WORDS[row["level"]] + (", restart due" if row["restart_due"] and row["level"] != "due" else "")
    why = f" {row['why']}" if row["why"] and place < DETAILED else ""
    goes = f"{row['sink']} {row['mode']}".replace(" None", "") if row["sink"] else ""
    cause = f"{row['causes'][0]['domain']} {row['causes'][0]['double_bounces']:,}" if row["causes"] else ""
    return [
        row["server"],
        f"{state}{why}",
        goes,
        f"{row['double_bounces']:,}" if figures else "",
        None,  # what became of them: see below
        "" if row["waiting"] is None else f"{row['waiting']:,}",
        "" if row["oldest"] is None else age(now - row["oldest"]),
        cause,
        f"{sum(row['counts']):,}" if row["counts"] else "",
        age(now - row["heard"]),
    ]


def age(seconds):
    if seconds >= 86400:
        return f"{seconds // 86400} d"
    if seconds >= 3600:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"


def flat(text):
    return " ".join(text.split())


def cells(page):
    """The texts of the table, however wide the window is."""
    return page.page.eval_on_selector_all(
        "#servers tbody tr",
        """rows => rows.map(row => [...row.cells].map(cell => {
          const parts = [...cell.childNodes].map(node => node.nodeName === "svg" ? "" : node.textContent);
          return parts.join(cell.cellIndex === 1 ? " " : "").replace(/\\s+/g, " ").replace(" ,", ",").trim();
        }))""",
    )


@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_everybody_can_read_it_and_nothing_overflows(chromium, fleet, number, width, scheme):
    path, _ = fleet(number)
    with browser.Page(chromium, path, width, scheme) as page:
        assert page.overflows() == []
        assert axe(page) == []
        assert page.troubles() == []


@pytest.mark.parametrize("number", [40, pytest.param(MANY, marks=pytest.mark.soak)])
def test_the_table_has_the_figures_of_the_report(chromium, fleet, number):
    path, report = fleet(number)
    assert path.stat().st_size < 5_000_000
    with browser.Page(chromium, path) as page:
        shown = cells(page)
        assert page.overflows() == []
        plots = page.page.locator("#servers td:nth-child(9) path").count()
        assert page.troubles() == []
    assert len(shown) == number
    for place, (row, texts) in enumerate(zip(report["servers"], shown)):
        wanted = [flat(text) if text is not None else texts[4] for text in expected(row, report["made"], place)]
        assert texts == wanted
        ended = {key: count for key, count in (row["day"] or {}).items() if key != "double_bounces" and count}
        assert [float(share) for share in re.findall(r"([\d.]+)%", texts[4])] == [
            float(f"{100 * count / sum(ended.values()):.3g}") for count in sorted(ended.values(), reverse=True)[:2]
        ]
    assert plots == sum(bool(row["counts"]) for row in report["servers"][:DETAILED])


@pytest.mark.soak
@pytest.mark.parametrize("width", WIDTHS[:2])
def test_ten_thousand_servers_overflow_no_small_window(chromium, fleet, width):
    path, _ = fleet(MANY)
    with browser.Page(chromium, path, width, "dark") as page:
        assert page.overflows() == []
        assert page.troubles() == []


def test_the_top_has_the_totals_of_the_report(chromium, fleet):
    path, report = fleet(40)
    totals = report["totals"]
    with browser.Page(chromium, path) as page:
        levels, figures = page.texts(".levels li"), page.texts(".figures b")
        label = page.page.get_attribute("figure svg", "aria-label")
        problems = page.texts(".problems > li")
        causes = page.texts("#causes tbody td:nth-child(2)")
        sinks = page.rows("#sinks tbody tr")
    assert [int(text.split()[0]) for text in re.findall(r"\d+", " ".join(levels))] == list(totals["levels"].values())
    assert figures[:2] == [f"{totals['double_bounces']:,}", f"{totals['waiting']:,}"]
    assert f"{sum(totals['counts']):,} in all, at most {max(totals['counts']):,} in an hour" in label
    for text, one in zip(problems, totals["problems"]):
        assert one["problem"] in text
        assert one["remedy"] in text
        assert all(name in text for name in one["servers"])
    assert len(problems) == len(totals["problems"]) == 7
    assert causes == [f"{one['double_bounces']:,}" for one in totals["causes"]]
    for key in ("swallowed", "stored", "deferred"):
        assert [key, f"{totals['before'][key]:,}", f"{totals['after'][key]:,}"] in sinks
    assert ["95 of 100 waited at most, where that was longest", "45 min", "4 s"] in sinks


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_hostile_texts_are_texts(chromium, hostile, width, scheme):
    path, report = hostile
    with browser.Page(chromium, path, width, scheme) as page:
        assert page.troubles() == []
        assert page.overflows() == []
        assert "need a look" in page.page.title()
        assert page.page.evaluate("document.querySelectorAll('script, img, iframe, object, link').length") == 1
        shown = cells(page)
        problems = page.texts(".problems > li p:first-of-type")
        if width == 768:
            assert axe(page) == []
    for place, (row, texts) in enumerate(zip(report["servers"], shown)):
        wanted = expected(row, report["made"], place)
        assert [text for at, text in enumerate(texts) if at != 4] == [
            flat(text) for at, text in enumerate(wanted) if at != 4
        ]
    assert problems == [one["problem"] for one in report["totals"]["problems"]]


def test_the_page_of_one_server_shows_its_hostile_texts(chromium, made):
    text = HOSTILE[0] + HOSTILE[3] + HOSTILE[6]
    said = {**overviews.answer(3), "sink": text, "problems": [{"problem": text, "remedy": text}]}
    path, report = made("one-hostile", lambda: [("mx3.example.com", said)])
    with browser.Page(chromium, path, 360) as page:
        assert page.troubles() == []
        assert page.overflows() == []
        shown = page.texts("#state dd")[1], page.texts(".problems p")[0]
    assert shown[0].startswith(report["servers"][0]["sink"])
    assert shown[1] == report["servers"][0]["problems"][0]["problem"]
    assert "{{ 7 * 7 }}" in shown[1]


def test_without_script_it_says_the_same(chromium, fleet):
    path, report = fleet(40)
    with browser.Page(chromium, path, script=False) as page:
        names = page.page.locator("#servers tbody th").all_inner_texts()
        assert page.page.locator("#servers button, #servers input").count() == 0
        assert page.said == []
    assert names == [row["server"] for row in report["servers"]]


def test_a_click_sorts_and_another_one_turns_it_around(chromium, fleet):
    path, report = fleet(40)
    with browser.Page(chromium, path) as page:
        head = page.page.locator("#servers thead th").nth(3)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        down = [row[3] for row in page.rows()]
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        up = [row[3] for row in page.rows()]
        assert axe(page) == []
        page.page.locator("#servers thead th").nth(1).locator("button").click()
        again = [row[0] for row in page.rows()]
        assert page.troubles() == []
    numbers = sorted((-1 if row["double_bounces"] is None else row["double_bounces"]) for row in report["servers"])
    assert [int(text.replace(",", "") or -1) for text in up] == numbers
    assert [int(text.replace(",", "") or -1) for text in down] == numbers[::-1]
    assert sorted(again) == sorted(row["server"] for row in report["servers"])


@pytest.mark.parametrize("width", [360, 1440])
def test_words_choose_servers(chromium, fleet, width):
    from playwright.sync_api import expect

    path, _ = fleet(40)
    with browser.Page(chromium, path, width) as page:
        page.page.fill("#words", "wrong STORED")
        expect(page.page.get_by_role("status")).to_have_text("2 of 40 servers")
        assert sorted(row[0] for row in page.rows()) == ["mx29.example.com", "mx3.example.com"]
        page.page.fill("#words", "")
        expect(page.page.get_by_role("status")).to_be_empty()
        assert len(page.rows()) == 40
        assert page.troubles() == []


@pytest.mark.parametrize("number", [1, 40])
def test_on_paper_nothing_overflows(chromium, fleet, number):
    path, _ = fleet(number)
    with browser.Page(chromium, path, 1120, "dark") as page:
        page.page.emulate_media(media="print")
        assert page.overflows() == []
        assert axe(page) == []
        assert page.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_script_that_came_in_would_not_run(chromium, fleet, tmp_path):
    """The policy of the page holds, and these tests would notice one who broke it."""
    path, _ = fleet(40)
    bad = tmp_path / "bad.html"
    more = "<script>document.title = 'taken'</script><img src='https://example.com/x.png'><p style='color: red'>"
    bad.write_text(path.read_text().replace("</main>", f"{more}</main>"))
    with browser.Page(chromium, bad) as page:
        assert page.page.title() != "taken"
        found = set(page.page.evaluate("window.violations"))
    assert found == {"script-src-elem", "img-src", "style-src-attr"}


def test_what_overflows_would_be_noticed(chromium, fleet, tmp_path):
    path, _ = fleet(40)
    bad = tmp_path / "wide.html"
    bad.write_text(path.read_text().replace("overflow-wrap: anywhere;", "white-space: nowrap;"))
    with browser.Page(chromium, bad, 360) as page:
        assert page.overflows()
