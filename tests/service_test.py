"""The service over HTTP, with a stub for the network."""

from __future__ import annotations

import base64
import datetime
import json
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from starlette.testclient import TestClient

from cdnet_tf.service.app import create
from cdnet_tf.service.guard import Caller, Limits
from cdnet_tf.service.messages import Which
from cdnet_tf.service.retaining import retaining
from cdnet_tf.service.tokens import Tokens
from tests import postgres_server, service_people
from tests.service_people import HEADERS, START, picture

_ROW = {
    "embedding": [1.0, 0.0, 0.0],
    "camera": "door",
    "time": "2026-04-01T12:00:00+02:00",
    "key": "new",
}
_BODY = {"network": service_people.NETWORK._asdict(), "rows": [_ROW]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that change nothing: a client, and the folder of the gallery."""
    folder = tmp_path_factory.mktemp("service")
    app = create(service_people.service(folder), service_people.TOKENS)
    return TestClient(app, headers=HEADERS), folder


@pytest.fixture(scope="module")
def server():
    with postgres_server.running() as url:
        yield url


@pytest.fixture(params=["folder", "server"])
def service(request, tmp_path):
    """On a gallery of each kind."""
    place = None
    if request.param == "server":
        place = postgres_server.new_schema(request.getfixturevalue("server"))
    made = service_people.service(tmp_path, place=place)
    yield made
    made._gallery.close()


@pytest.fixture
def client(service):
    """For tests that change the gallery."""
    made = create(service, service_people.TOKENS)
    return TestClient(made, headers=HEADERS, raise_server_exceptions=False)


def _audit(folder):
    return [json.loads(line) for line in (folder / "audit.jsonl").open()]


def test_finds_the_rows_of_a_picture(shared):
    client, folder = shared
    answer = client.post(
        "/v1/search/photo",
        params={"k": 4, "not_cameras": ["yard"]},
        files={"photo": picture("red")},
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [each["key"] for each in found["matches"][:2]] == ["red 0", "red 1"]
    assert [each["same_person"] for each in found["matches"]] == [True] * 2 + [
        False
    ] * 2
    first = found["matches"][0]
    assert first["camera"] == "door" and first["time"] == "2026-03-01T00:00:00Z"
    assert base64.b64decode(first["picture"].partition(",")[2])[:2] == b"\xff\xd8"
    line = _audit(folder)[-1]
    now = datetime.datetime.now(datetime.timezone.utc)
    assert now - datetime.datetime.fromisoformat(line.pop("time")) < datetime.timedelta(
        minutes=5
    )
    assert line == {
        "who": "tester",
        "kind": "search",
        "address": "testclient",
        "by": "photo",
        "filters": {"not_cameras": ["yard"]},
        "count": 4,
    }


def test_finds_the_rows_of_a_row(shared):
    client, folder = shared
    since = START + datetime.timedelta(hours=1)
    answer = client.post(
        "/v1/search/row", params={"key": "blue 0", "k": 1, "since": since.isoformat()}
    )
    assert [each["key"] for each in answer.json()["matches"]] == ["blue 0"]
    assert _audit(folder)[-1]["key"] == "blue 0"
    answer = client.post("/v1/search/row", params={"key": "nobody"})
    assert answer.status_code == 400 and "no row 'nobody'" in answer.json()["detail"]


def test_pools_tracks(client):
    # A track belongs to one camera, so the others have one row each.
    rows = [_ROW | {"key": str(i), "track": "walk"} for i in range(3)]
    client.post("/v1/rows", json=_BODY | {"rows": rows})
    answer = client.post(
        "/v1/search/row", params={"key": "1", "pool_tracks": True, "k": 99}
    )
    assert [each["rows"] for each in answer.json()["matches"]] == [3] + [1] * 12
    assert answer.json()["matches"][0]["track"] == "walk"


def test_says_what_is_in_the_gallery(shared):
    client, _ = shared
    found = client.get("/v1/gallery", params={"bins": 4}).json()
    assert found["rows"] == 12
    assert found["cameras"] == {"door": 4, "hall": 4, "yard": 4}
    assert found["histogram"]["counts"] == [3, 3, 3, 3]
    assert found["threshold"] == 0.2 and found["network"] == "stub"
    # The hall saw someone at 1:00, 4:00, 7:00 and 10:00 of the hours 0:00 to 11:00.
    some = client.get("/v1/gallery", params={"bins": 11, "cameras": "hall"}).json()
    assert some["histogram"]["counts"] == [0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1]


def test_counts_itself(shared):
    client, _ = shared
    client.post("/v1/search/row", params={"key": "red 0"})
    text = client.get("/metrics").text
    assert "cdnet_rows 12.0" in text
    assert 'route="/v1/search/row",status="200"' in text


def test_describes_itself_and_shows_the_page(shared):
    client, _ = shared
    stranger = TestClient(client.app)
    paths = stranger.get("/openapi.json").json()["paths"]
    assert {"/v1/rows", "/v1/search/photo", "/v1/search/row", "/health"} <= set(paths)
    for path in ("/", "/app.js", "/histogram.js", "/app.css", "/icon.svg", "/docs"):
        answer = stranger.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(stranger.get("/docs/swagger-ui-bundle.js").content) > 100_000
    assert stranger.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "token", [None, "Bearer wrong", "Basic " + HEADERS["Authorization"][7:], "Bearer "]
)
def test_refuses_who_has_no_token(shared, token):
    stranger = TestClient(
        shared[0].app, headers={"Authorization": token} if token else {}
    )
    for method, path in [
        ("get", "/v1/gallery"),
        ("get", "/metrics"),
        ("post", "/v1/rows"),
        ("delete", "/v1/rows?camera=door"),
        ("get", "/unknown"),
    ]:
        answer = getattr(stranger, method)(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    assert shared[0].get("/v1/gallery").json()["rows"] == 12


def test_other_sites_are_told_nothing(shared):
    client, _ = shared
    headers = {"Origin": "https://elsewhere.example"}
    answer = client.get("/v1/gallery", headers=headers)
    assert not [n for n in answer.headers if n.startswith("access-control")]
    asked = headers | {"Access-Control-Request-Method": "POST"}
    assert client.options("/v1/rows", headers=asked).status_code == 405


def test_refuses_too_much(tmp_path):
    limits = Limits(body_bytes=2000, rate="3/minute")
    app = create(service_people.service(tmp_path), service_people.TOKENS, limits)
    client = TestClient(app, headers=HEADERS)
    files = {"photo": bytes(2001)}
    answer = client.post("/v1/search/photo", files=files)
    assert answer.status_code == 413 and "2000" in answer.json()["detail"]
    answer = client.post("/v1/rows", content=iter([b"{}"]))
    assert answer.status_code == 411
    assert client.get("/v1/gallery").status_code == 200
    answer = client.get("/v1/gallery")
    assert answer.status_code == 429 and answer.headers["retry-after"]


def test_wrong_tokens_are_slowed_down(tmp_path):
    app = create(service_people.service(tmp_path), service_people.TOKENS)
    guess = TestClient(app, headers={"Authorization": "Bearer guess"})
    found = [guess.get("/v1/gallery").status_code for _ in range(21)]
    assert found == [401] * 20 + [429]
    assert TestClient(app, headers=HEADERS).get("/v1/gallery").status_code == 200


def _bomb() -> bytes:
    """A PNG file of some bytes that claims 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize(
    "content, said",
    [
        (b"no picture", "no whole JPEG"),
        (b"", "no whole JPEG"),
        (picture("red", "JPEG")[:-200], "no whole JPEG"),
        (picture("red", "GIF"), "no whole JPEG"),
        (picture("red", size=(4001, 4000)), "4001 x 4000"),
        (picture("red", size=(1, 64)), "too few"),
        (_bomb(), "refused"),
    ],
    ids=["text", "empty", "cut", "gif", "large", "thin", "bomb"],
)
def test_refuses_pictures(shared, content, said):
    answer = shared[0].post("/v1/search/photo", files={"photo": content})
    assert answer.status_code == 400 and said in answer.json()["detail"], answer.text


def test_adds_what_a_camera_sends(client):
    row = _ROW | {"picture": base64.b64encode(picture("red")).decode()}
    body = _BODY | {"rows": [row, _ROW | {"key": "other", "metadata": {"a": [1]}}]}
    assert client.post("/v1/rows", json=body).json() == {"added": 2}
    assert client.post("/v1/rows", json=body).json() == {"added": 0}
    found = client.post("/v1/search/row", params={"key": "new", "k": 2}).json()
    first, second = found["matches"]
    assert first["time"] == "2026-04-01T10:00:00Z"
    assert first["picture"].startswith("data:image/jpeg;base64,")
    assert second["key"] == "other" and second["metadata"] == {"a": [1]}
    assert client.get("/v1/gallery").json()["rows"] == 14


@pytest.mark.parametrize(
    "change, status, said",
    [
        ({"network": {"name": "else", "checksum": "0" * 64}}, 400, "network stub"),
        ({"rows": [_ROW, _ROW | {"embedding": [1.0, 0.0]}]}, 400, "the same number"),
        ({"rows": [_ROW, _ROW | {"key": None}]}, 400, "keys for all or none"),
        ({"rows": [_ROW | {"embedding": [0.0] * 3}]}, 400, "zeros"),
        ({"rows": [_ROW | {"time": "2026-04-01T12:00:00"}]}, 422, "timezone"),
        ({"rows": []}, 422, "at least 1"),
        ({"rows": [_ROW] * 1001}, 422, "at most 1000"),
        ({"rows": [_ROW | {"picture": "bm9uZQ=="}]}, 400, "no whole JPEG"),
    ],
)
def test_refuses_rows_whole(shared, change, status, said):
    client, _ = shared
    answer = client.post("/v1/rows", json=_BODY | change)
    assert answer.status_code == status and said in answer.text
    assert client.get("/v1/gallery").json()["rows"] == 12


def test_adds_a_photo(client, tmp_path):
    known = {"camera": "gate", "time": "2026-03-02T00:00:00Z", "key": "k"}
    files = {"photo": picture("magenta", "WEBP")}
    answers = [
        client.post("/v1/rows/photo", params=known, files=files) for _ in range(2)
    ]
    assert [each.json() for each in answers] == [{"added": 1}, {"added": 0}]
    found = client.post("/v1/search/photo", params={"k": 1}, files=files).json()
    assert found["matches"][0]["key"] == "k"
    assert [line["kind"] for line in _audit(tmp_path)] == ["add", "add", "search"]


def test_deletes(client, tmp_path):
    assert client.delete("/v1/rows").status_code == 400
    assert client.delete("/v1/rows", params={"kamera": "door"}).status_code == 422
    answer = client.delete("/v1/rows", params={"camera": "door"})
    assert answer.json() == {"rows": 4, "erased_from": None}
    assert client.get("/v1/gallery").json()["cameras"] == {"hall": 4, "yard": 4}
    line = _audit(tmp_path)[-1]
    assert (line["kind"], line["filters"], line["count"]) == (
        "delete",
        {"camera": "door"},
        4,
    )


def test_answers_nothing_that_is_not_in_the_audit(client, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answer = client.post("/v1/search/row", params={"key": "red 0"})
    assert answer.status_code == 503 and "No space left" in answer.json()["detail"]


def test_shows_pictures_of_one_folder_alone(tmp_path):
    (tmp_path / "shown").mkdir()
    inside, outside = tmp_path / "shown" / "a.png", tmp_path / "b.png"
    for path in (inside, outside):
        path.write_bytes(picture("gray"))
    around = tmp_path / "shown" / ".." / "b.png"
    service = service_people.service(tmp_path, tmp_path / "shown")
    grays = np.ones((3, 3)), "gate", START
    paths = [inside, outside, around]
    service._gallery.add(*grays, keys=["0", "1", "2"], pictures=paths)
    client = TestClient(create(service, service_people.TOKENS), headers=HEADERS)
    found = client.post("/v1/search/row", params={"key": "0", "cameras": "gate"}).json()
    shown = {each["key"]: each["picture"] is not None for each in found["matches"]}
    assert shown == {"0": True, "1": False, "2": False}


def test_searches_under_conditions(client):
    hour = datetime.timedelta(hours=1)
    wanted = {"since": (START + hour).isoformat(), "until": (START + 9 * hour)}
    answer = client.post(
        "/v1/search/photo",
        params={**wanted, "k": 99, "not_cameras": ["hall"], "exact": True},
        files={"photo": picture("blue")},
    )
    # The hours 0 to 11 go round the door, the hall and the yard, three for a colour.
    found = [each["key"] for each in answer.json()["matches"]]
    assert sorted(found[:2]) == ["blue 0", "blue 2"]
    assert sorted(found[2:]) == ["lime 0", "lime 2", "red 2"]
    assert client.get("/health").json() == {"status": "ok"}
    assert "cdnet_rows 12.0" in client.get("/metrics").text


def test_forgets_by_the_retention(service, tmp_path):
    assert service.retain() == 0
    service._gallery.keep(days=1)
    assert service.retain() == 12
    assert service.overview([], 4).rows == 0
    assert _audit(tmp_path)[-1]["kind"] == "erase"


def test_indexes_what_does_not_fit_into_memory(service, monkeypatch):
    indexed = []
    monkeypatch.setattr(service._gallery, "index", lambda: indexed.append(1))
    for fits, calls in ((True, 0), (False, 1)):
        monkeypatch.setattr(service._gallery, "prepare", lambda fits=fits: fits)
        service.index()
        assert len(indexed) == calls


def test_says_when_deleted_rows_are_erased(service):
    began = datetime.datetime.now(datetime.timezone.utc)
    caller = Caller("tester", "here")
    with retaining(service, hours=48):
        while service.next_erasure is None:
            time.sleep(0.01)
        deleted = service.delete(caller, Which(key="red 0"))
    days = (deleted.erased_from - began) / datetime.timedelta(days=1)
    assert deleted.rows == 1 and 2 <= days < 2.1
    assert service.retain() == 0
    assert service._gallery.settings.unerased_since is None


def test_retention_goes_on_after_a_failure(capsys):
    class Service:
        calls = 0
        done = threading.Event()

        def retain(self):
            self.calls += 1
            if self.calls == 1:
                raise OSError("the disk is away")

        def index(self):
            self.done.set()

    service = Service()
    with retaining(service, hours=1e-6):
        assert service.done.wait(30)
    assert "Retention failed: the disk is away" in capsys.readouterr().err


def test_generated_tokens_are_kept_as_checksums(tmp_path):
    path = tmp_path / "tokens.json"
    token = Tokens.read(path).generate("ann", path)
    other = Tokens.read(path).generate("bob", path)
    assert token not in path.read_text() and path.stat().st_mode & 0o077 == 0
    tokens = Tokens.read(path)
    assert [tokens.name_of(each) for each in (token, other, "", token[1:])] == [
        "ann",
        "bob",
        None,
        None,
    ]
    with pytest.raises(ValueError, match="5 characters"):
        Tokens.of(me="short")
    path.write_text("[1")
    with pytest.raises(ValueError, match="remove the file"):
        Tokens.read(path)


def test_needs_a_token_and_a_rate(tmp_path):
    service = service_people.service(tmp_path)
    with pytest.raises(ValueError, match="no token"):
        create(service, Tokens({}))
    with pytest.raises(ValueError, match="600/minute"):
        create(service, service_people.TOKENS, Limits(rate="often"))
