"""Decodes pictures from strangers within limits, and makes them small.

A file of a few kilobytes may claim a picture of gigabytes. So the claimed size is
checked before any pixel is decoded, and only three formats are decoded at all.
"""

from __future__ import annotations

import base64
import io

import PIL.Image
import PIL.ImageOps

_FORMATS = ("JPEG", "PNG", "WEBP")
_MOST_PIXELS = 16_000_000
_LEAST_SIDE = 8
_THUMBNAIL = 192, 256  # greatest width and height, pixels
_JPEG = b"\xff\xd8\xff"
_SMALL_BYTES = 2**16


class PhotoError(ValueError):
    """A picture is refused; the message says why and what to send instead."""


def decode(content: bytes) -> PIL.Image.Image:
    """Decodes a picture to RGB, turned as its EXIF data say.

    Args:
      content: a JPEG, PNG or WebP file.

    Raises:
      PhotoError: the file is none of these or is broken, or the picture has more than
        16 million pixels or a side of less than 8.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=_FORMATS) as opened:
            _check_size(*opened.size)
            opened.load()
            return PIL.ImageOps.exif_transpose(opened).convert("RGB")
    except PhotoError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise PhotoError(f"The picture is refused: {error}") from error
    except Exception as error:  # Decoders raise errors of any kind on broken files.
        raise PhotoError(
            f"The {len(content):,} bytes are no whole JPEG, PNG or WebP picture "
            f"({type(error).__name__}); send one of these."
        ) from error


def thumbnail(picture: PIL.Image.Image) -> bytes:
    """Returns a small JPEG file of a picture, without its metadata."""
    small = picture.copy()
    small.thumbnail(_THUMBNAIL)
    # `copy` keeps comments and profiles, which may tell where a picture was taken.
    small.info.clear()
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()


def data_url(content: bytes | None) -> str | None:
    """Returns a picture as a data URL of a small JPEG, or None if there is none.

    Small JPEG files are passed on as they are. Any other picture is decoded first, and
    one that cannot be decoded counts as none.
    """
    if content is None:
        return None
    if not (content.startswith(_JPEG) and len(content) <= _SMALL_BYTES):
        try:
            content = thumbnail(decode(content))
        except PhotoError:
            return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise PhotoError(
            f"The picture has {width} x {height} pixels; send one of up to "
            f"{_MOST_PIXELS:,} pixels, cut to one person."
        )
    if min(width, height) < _LEAST_SIDE:
        raise PhotoError(
            f"The picture has {width} x {height} pixels, too few to show a person; "
            f"send one whose sides have at least {_LEAST_SIDE}."
        )
