"""The page in a real browser, over a service with a stub for the network."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading

import pytest
import uvicorn

from cdnet_tf.service.app import create
from tests import service_people

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

_BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    os.environ.get("CHROMIUM", ""),
)
pytestmark = pytest.mark.skipif(
    not _BROWSER,
    reason="There is no Chromium: install it (apt-get install chromium), or name it in "
    "the variable CHROMIUM.",
)
_ROWS = len(service_people.COLOURS) * len(service_people.CAMERAS)


@pytest.fixture
def address(tmp_path):
    """A service on a socket, in a thread."""
    app = create(service_people.service(tmp_path), service_people.TOKENS)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        options = {"executable_path": _BROWSER, "args": ["--no-sandbox"]}
        with driver.chromium.launch(**options) as launched:
            yield launched


@pytest.fixture
def page(browser, address):
    """A page that nothing goes wrong on, such as a breach of the policy."""
    problems: list[str] = []
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda line: problems.append(line.text) if line.type == "error" else None,
        )
        page.goto(address)
        yield page
        # The browser reports the answers that refuse something, which is as it should.
        expected = "Failed to load resource"
        assert [each for each in problems if expected not in each] == []


def _enter(page):
    page.get_by_label("Token").fill(service_people.TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text(f"{_ROWS} images, 3 cameras")


def _ask(page, colour="blue"):
    file = {"name": "a.png", "mimeType": "image/png"}
    file["buffer"] = service_people.picture(colour)
    page.locator("#photo").set_input_files(file)
    expect(page.locator("#state")).to_contain_text("matches in")


def _keys(page):
    return page.locator("#matches li").evaluate_all(
        "items => items.map(item => item.dataset.key)"
    )


def test_a_tab_keeps_the_token(page):
    page.get_by_label("Token").fill("wrong, but long enough")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("A token is needed")
    _enter(page)
    page.reload()
    expect(page.locator("#summary")).to_contain_text(f"{_ROWS} images")
    stored = page.evaluate("[localStorage.length, document.cookie]")
    assert stored == [0, ""]
    page.get_by_role("button", name="Forget the token").click()
    expect(page.get_by_label("Token")).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0


def test_finds_filters_and_searches_from_a_match(page):
    _enter(page)
    _ask(page)
    assert len(_keys(page)) == _ROWS
    assert _keys(page)[:3] == ["blue 0", "blue 1", "blue 2"]
    assert page.locator("li.same").count() == 3
    first = page.locator("#matches li").first
    expect(first).to_contain_text("same person")
    expect(first).to_contain_text("2026-03-01 06:00:00")
    assert first.locator("img").evaluate("image => image.naturalWidth") == 32

    page.get_by_role("checkbox", name="yard").check()
    expect(page.locator("#state")).to_contain_text("4 matches")
    assert {key[-1] for key in _keys(page)} == {"2"}
    # The left half of the bars: 0:00 to 5:30, in which the yard saw two people.
    box = page.locator("#histogram").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 2, box["y"] + 10)
    page.mouse.up()
    expect(page.locator("#state")).to_contain_text("2 matches")
    assert page.locator("#since").input_value().startswith("2026-03-01T00:00")
    assert page.locator("#until").input_value().startswith("2026-03-01T05:30")

    page.get_by_role("button", name="Reset the filters").click()
    expect(page.locator("#state")).to_contain_text(f"{_ROWS} matches")
    page.get_by_role("button", name=re.compile("^Match 5,")).click()
    fifth = page.locator("#query").get_attribute("src")
    assert fifth.startswith("data:image/jpeg")
    expect(page.locator("#matches li .distance").first).to_have_text("0.000")
    expect(page.locator("#matches li img").first).to_have_attribute("src", fifth)


def test_deletes_by_the_keyboard(page):
    _enter(page)
    _ask(page, "red")
    page.get_by_role("button", name=re.compile("^Delete match 1,")).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("Enter")
    assert len(_keys(page)) == _ROWS
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text(f"{_ROWS - 1} images")
    assert "red 0" not in _keys(page) and len(_keys(page)) == _ROWS - 1


def test_says_what_is_wrong(page):
    _enter(page)
    file = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#photo").set_input_files(file)
    expect(page.get_by_role("alert")).to_contain_text("no whole JPEG")
    expect(page.locator("#state")).to_have_text("")


def test_fits_a_phone_in_the_dark(page):
    page.set_viewport_size({"width": 360, "height": 740})
    _enter(page)
    _ask(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    assert light == "rgb(250, 250, 248)"
    assert page.evaluate(background) == "rgb(22, 24, 28)"


def test_shows_the_interface(page, address):
    page.goto(f"{address}docs")
    expect(page.locator("#swagger")).to_contain_text("/v1/search/photo")


def test_the_picture_for_the_docs_shows_both_screens(browser, address, tmp_path):
    draw_page = pytest.importorskip("tools.draw_page")
    photo = tmp_path / "blue.png"
    photo.write_bytes(service_people.picture("blue"))
    picture = draw_page.side_by_side(browser, address, service_people.TOKEN, photo)
    assert picture.size == (1200 + 20 + 390, 800)
    # The wide screen is light and the phone is dark.
    assert min(picture.getpixel((5, 795))) > 200
    assert max(picture.getpixel((1605, 795))) < 60
