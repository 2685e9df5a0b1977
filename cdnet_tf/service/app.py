"""The gallery service over HTTP: its routes, and the files of its page.

app = create(service, tokens)  # runs in any ASGI server
"""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import fastapi_offline
from fastapi import Depends, FastAPI, File, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPBearer

from cdnet_tf.service.guard import Caller, Guard, Limits
from cdnet_tf.service.messages import (
    Added,
    Deleted,
    Matches,
    NewPhoto,
    NewRows,
    Overview,
    Wanted,
    WantedRow,
    Which,
)
from cdnet_tf.service.service import Service
from cdnet_tf.service.tokens import Tokens

_PAGE = pathlib.Path(__file__).parent / "page"
_SWAGGER = pathlib.Path(fastapi_offline.__file__).parent / "static"
# Path -> file. These files are the same for everybody, so they need no token.
_FILES = {
    "/": _PAGE / "index.html",
    "/app.js": _PAGE / "app.js",
    "/histogram.js": _PAGE / "histogram.js",
    "/app.css": _PAGE / "app.css",
    "/icon.svg": _PAGE / "icon.svg",
    "/docs": _PAGE / "docs.html",
    "/docs/docs.js": _PAGE / "docs.js",
    "/docs/swagger-ui.css": _SWAGGER / "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": _SWAGGER / "swagger-ui-bundle.js",
}
_PUBLIC = frozenset({*_FILES, "/health", "/openapi.json"})
# Swagger's page has inline styles, which the policy of `guard` forbids.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
)

# Names the token in the description of a route; `Guard` checks it.
_TOKEN = [Depends(HTTPBearer(auto_error=False))]
_Photo = Annotated[bytes, File(description="A JPEG, PNG or WebP file of one person.")]


def _caller(request: Request) -> Caller:
    return request.state.caller


_Caller = Annotated[Caller, Depends(_caller)]


def create(
    service: Service, tokens: Tokens, limits: Limits | None = None, **fields: Any
) -> Guard:
    """Makes the application and its guard.

    Args:
      service: answers the requests.
      tokens: the accepted tokens, at least one.
      limits: limits of size and rate; None for the defaults.
      **fields: more arguments of `FastAPI`, such as `lifespan`.

    Raises:
      ValueError: there is no token, or a limit is wrong.
    """
    if not len(tokens):
        raise ValueError("The service has no token; generate one with Tokens.generate.")
    app = FastAPI(
        title="cdnet_tf gallery",
        description="Find a person in the images of many cameras.",
        docs_url=None,
        redoc_url=None,
        **fields,
    )
    _serve_files(app)
    _add_state_routes(app, service)
    _add_row_routes(app, service)
    app.add_exception_handler(ValueError, _refused)
    app.add_exception_handler(OSError, _failed)
    return Guard(app, tokens, limits or Limits(), _PUBLIC, service.metrics)


def _serve_files(app: FastAPI) -> None:
    for path, file in _FILES.items():
        headers = {"cache-control": "no-cache"}
        if path.startswith("/docs"):
            headers["content-security-policy"] = _DOCS_POLICY
        app.add_api_route(path, _file(file, headers), include_in_schema=False)


def _file(file: pathlib.Path, headers: dict[str, str]):
    return lambda: FileResponse(file, headers=headers)


def _add_state_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["state"])
    def health() -> dict[str, str]:
        """Says that the gallery can be read; needs no token."""
        service.count()
        return {"status": "ok"}

    @app.get("/metrics", tags=["state"], dependencies=_TOKEN)
    def metrics() -> Response:
        """Returns metrics in the format of Prometheus."""
        text = service.metrics.text(service.count())
        return Response(text, media_type=service.metrics.content_type)

    @app.get("/v1/gallery", tags=["state"], dependencies=_TOKEN)
    def overview(
        cameras: Annotated[list[str], Query()] = [],  # noqa: B006
        bins: Annotated[int, Query(ge=1, le=500)] = 60,
    ) -> Overview:
        """Counts rows by camera, and over time those of some cameras or of all."""
        return service.overview(cameras, bins)


def _add_row_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/rows", tags=["rows"], dependencies=_TOKEN)
    def add_rows(caller: _Caller, new: NewRows) -> Added:
        """Adds rows that a camera embedded: all of them, or none if one is wrong.

        Rows whose key is in the gallery already are left out, so send them again after
        a failure.
        """
        return Added(service.add_rows(caller, new))

    @app.post("/v1/rows/photo", tags=["rows"], dependencies=_TOKEN)
    def add_photo(
        caller: _Caller, photo: _Photo, new: Annotated[NewPhoto, Query()]
    ) -> Added:
        """Embeds a picture and adds it."""
        return Added(service.add_photo(caller, photo, new))

    @app.delete("/v1/rows", tags=["rows"], dependencies=_TOKEN)
    def delete(caller: _Caller, which: Annotated[Which, Query()]) -> Deleted:
        """Deletes the rows that meet all conditions; no search finds them any more."""
        return service.delete(caller, which)

    @app.post("/v1/search/photo", tags=["search"], dependencies=_TOKEN)
    def search_photo(
        caller: _Caller, photo: _Photo, wanted: Annotated[Wanted, Query()]
    ) -> Matches:
        """Finds who looks like the person in a picture."""
        return service.search_photo(caller, photo, wanted)

    @app.post("/v1/search/row", tags=["search"], dependencies=_TOKEN)
    def search_row(caller: _Caller, wanted: Annotated[WantedRow, Query()]) -> Matches:
        """Finds who looks like the person in a row of the gallery."""
        return service.search_row(caller, wanted.key, wanted)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=400)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"retry-after": "5"})
