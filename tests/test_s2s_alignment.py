"""Alignments as text, and as a page that a real browser shows."""

import json
import re

import pytest
import torch
from browser import Browser, find_browser

from s2s.report.alignment import printable, to_html, to_text
from s2s.translator import Translation


def translation(source, target, weights):
    return Translation(" ".join(target[:-1]), -1.25, source, target, torch.tensor(weights))


FIRST = translation(["a", "</script><b>"], ["x", "</s>"], [[0.875, 0.125], [0.25, 0.75]])
SECOND = translation(["q￭", "r", "s"], ["▁ü", "v w", "</s>"], [[1.0, 0, 0], [0, 0.6, 0.4], [0, 0, 1.0]])


def test_text():
    assert to_text([FIRST, SECOND]) == (
        "# 1\t-1.2500\tx\n\ta\t</script><b>\nx\t0.8750\t0.1250\nend\t0.2500\t0.7500\n"
        "\n"
        "# 2\t-1.2500\t▁ü v w\n\tq\tr\ts\n␣ü\t1.0000\t0.0000\t0.0000\nv␣w\t0.0000\t0.6000\t0.4000\n"
        "end\t0.0000\t0.0000\t1.0000\n"
    )
    assert printable("￭") == "￭"


def test_the_page_is_complete_in_itself():
    page = to_html([FIRST, SECOND])
    assert "://" not in page and " src=" not in page and " href=" not in page and "@import" not in page
    assert "default-src 'none'" in page
    (data,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert [len(sentence["weights"]) for sentence in json.loads(data)] == [2, 3]
    assert json.loads(data)[0]["source"] == ["a", "</script><b>"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if not find_browser():
        pytest.skip("no Chromium is installed to show the page in")
    folder = tmp_path_factory.mktemp("page")
    path = folder / "page.html"
    path.write_text(to_html([FIRST, SECOND]), encoding="utf-8")
    browser = Browser(folder / "profile")
    yield browser, path
    browser.close()


@pytest.fixture
def browser(page):
    browser, path = page
    browser.colours("light")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    browser.open(path)
    return browser


def lines(browser):
    """For each line of words, [(its text, its percentage, whether it is chosen)]."""
    return browser.js(
        "[...document.querySelectorAll('.words')].map(line => [...line.children].map("
        "word => [word.textContent, word.dataset.percent ?? '', word.classList.contains('chosen')]))"
    )


def strength(browser, word):
    """How opaque the background of a word is, 0 to 1."""
    colour = browser.js(f"getComputedStyle(document.querySelectorAll('button')[{word}]).backgroundColor")
    found = re.fullmatch(r"rgba?\(\d+, \d+, \d+(?:, ([\d.]+))?\)", colour)
    return float(found[1] or 1)


def test_a_page_without_errors_or_requests(browser):
    assert [[word for word, *_ in line] for line in lines(browser)] == [
        ["a", "</script><b>"], ["x", "end"], ["q", "r", "s"], ["␣ü", "v␣w", "end"]
    ]  # fmt: skip
    events = {event["method"]: event for event in browser.events}
    assert "Runtime.exceptionThrown" not in events and "Log.entryAdded" not in events
    requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert len(requests) == 1 and requests[0].startswith("file://")


def test_pointing_at_a_word_shows_its_weights(browser):
    browser.move("button", 8)  # "v␣w" of the second sentence
    above, below, source, target = lines(browser)
    assert source == [["q", "", False], ["r", "60%", False], ["s", "40%", False]]
    assert [chosen for _, _, chosen in target] == [False, True, False]
    assert not any(percent or chosen for _, percent, chosen in above + below)
    assert [strength(browser, i) for i in (4, 5, 6)] == pytest.approx([0, 0.6, 0.4], abs=0.01)
    browser.move("button", 1)  # a source word shows which outputs looked at it
    above, below, source, target = lines(browser)
    assert [percent for _, percent, _ in below] == ["13%", "75%"]
    assert not any(percent for _, percent, _ in source + target)
    browser.move("h1", 0)
    assert not any(percent or chosen for line in lines(browser) for _, percent, chosen in line)


def test_all_weights_are_there_at_rest_and_on_paper(browser):
    tables = browser.js(
        "[...document.querySelectorAll('.map')].map(map => [...map.querySelectorAll('tbody tr')].map("
        "row => [...row.children].map(cell => cell.textContent)))"
    )
    assert tables == [
        [["x", "88%", "13%"], ["end", "25%", "75%"]],
        [["␣ü", "100%", "", ""], ["v␣w", "", "60%", "40%"], ["end", "", "", "100%"]],
    ]

    def style(selector, name):
        return browser.js(f"getComputedStyle(document.querySelector({selector!r})).{name}")

    shown = style(".help", "display"), style(".map", "overflowX"), style("body", "backgroundColor")
    browser.call("Emulation.setEmulatedMedia", media="print")
    printed = style(".help", "display"), style(".map", "overflowX"), style("body", "backgroundColor")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert shown[:2] == ("block", "auto") and printed == ("none", "visible", "rgb(255, 255, 255)")
    assert style("td[style]", "backgroundColor") != "rgba(0, 0, 0, 0)"


def test_the_keyboard_is_enough(browser):
    def focused():
        return browser.js("document.activeElement.getAttribute('aria-label')")

    reached = []
    for name in ("Tab", "Tab", "ArrowRight", "ArrowRight", "ArrowLeft", "Tab", "End"):
        browser.key(name)
        reached.append(focused())
    x, end, a, s = (
        "x: a 88%, </script><b> 13%",
        "end: </script><b> 75%, a 25%",
        "a: x 88%, end 25%",
        "s: end 100%, v␣w 40%",
    )
    assert reached == [a, x, end, end, x, "q: ␣ü 100%", s]
    _, _, source, target = lines(browser)
    assert source[2] == ["s", "", True] and [percent for _, percent, _ in target] == ["", "40%", "100%"]


def contrast(first, second):
    """WCAG 2.1's ratio of two colours (r, g, b)."""

    def luminance(colour):
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(browser, scheme):
    """Contrast of at least 4.5, which WCAG asks for, on the page and on a word that has all of the weight."""
    browser.colours(scheme)
    browser.move("button", 7)  # "␣ü", which looks at "q" alone

    def colour(selector, name):
        found = browser.js(f"getComputedStyle(document.querySelector({selector!r})).{name}")
        return tuple(map(int, re.findall(r"\d+", found)[:3]))

    page, marked = colour("body", "backgroundColor"), colour("article:last-of-type button", "backgroundColor")
    assert strength(browser, 4) == 1
    assert (sum(page) > 600) == (scheme == "light")
    for background, text in (
        (page, colour("body", "color")),
        (page, colour("small", "color")),
        (page, colour(".line > span", "color")),
        (marked, colour("button", "color")),
    ):
        assert contrast(background, text) >= 4.5
