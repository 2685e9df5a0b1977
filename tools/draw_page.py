"""Takes the picture of a gallery's page that stands in the docs.

A browser searches for the person of a photo on a running service: on a wide screen, and
on a phone in the dark. Both pictures stand side by side in one PNG file.

    python tools/draw_page.py --page=http://127.0.0.1:8321/ --photo=FILE \
        --output=docs/gallery_page.png

The token of the service is read from the variable CDNET_GALLERY_TOKEN. Use photos of
generated people alone, as `make gallery` does: its pictures may be shown to anybody.
"""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import sys

import PIL.Image
from absl import app, flags
from playwright import sync_api

from cdnet_tf import atomic_files

_WIDE = {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"}
_PHONE = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
_GAP = 20  # pixels


def define_flags() -> None:
    # At import, the names would clash with those of other programs in one process.
    flags.DEFINE_string("page", "http://127.0.0.1:8321/", "Address of the page.")
    flags.DEFINE_string("photo", None, "Picture of the person to search for.")
    flags.DEFINE_string("output", None, "The PNG file.")
    flags.DEFINE_string(
        "browser", shutil.which("chromium"), "Chromium's program; found by default."
    )
    flags.mark_flags_as_required(["photo", "output"])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    values = flags.FLAGS
    token = os.environ.get("CDNET_GALLERY_TOKEN")
    if not token or not values.browser:
        sys.exit("Set CDNET_GALLERY_TOKEN, and install Chromium or name --browser.")
    with sync_api.sync_playwright() as driver:
        options = {"executable_path": values.browser, "args": ["--no-sandbox"]}
        with driver.chromium.launch(**options) as browser:
            photo = pathlib.Path(values.photo)
            picture = side_by_side(browser, values.page, token, photo).quantize()
    with atomic_files.replacing(pathlib.Path(values.output)) as partial:
        picture.save(partial, "PNG", optimize=True)


def side_by_side(
    browser: sync_api.Browser, address: str, token: str, photo: pathlib.Path
) -> PIL.Image.Image:
    """Returns the page on a wide screen and on a phone, after a search.

    Args:
      browser: Chromium.
      address: of the page.
      token: that the service accepts.
      photo: of the person to search for.
    """
    parts = [_taken(browser, address, token, photo, how) for how in (_WIDE, _PHONE)]
    width = sum(part.width for part in parts) + _GAP
    height = max(part.height for part in parts)
    picture = PIL.Image.new("RGB", (width, height), "white")
    picture.paste(parts[0], (0, 0))
    picture.paste(parts[1], (parts[0].width + _GAP, 0))
    return picture


def _taken(browser, address, token, photo, how) -> PIL.Image.Image:
    with browser.new_context(**how) as context:
        page = context.new_page()
        page.goto(address)
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        page.locator("#photo").set_input_files(photo)
        sync_api.expect(page.locator("#state")).to_contain_text("matches in")
        page.wait_for_load_state("networkidle")
        return PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB")


if __name__ == "__main__":
    define_flags()
    app.run(main)
