"""A camera loses nothing: neither when the service is killed nor when it is itself."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import av
import numpy as np
import PIL.Image
import pytest
import uvicorn

from cdnet_tf.service import crops
from cdnet_tf.service import outbox as outbox_module
from cdnet_tf.service.app import create
from cdnet_tf.service.outbox import Outbox
from cdnet_tf.service.sending import Background, RefusedError, Sender
from tests import service_people

_NETWORK = service_people.NETWORK._asdict()


def _row(key: str) -> dict:
    return {
        "key": key,
        "camera": "door",
        "time": "2026-04-01T00:00:00Z",
        "embedding": [1.0, 0.5, 0.25],
    }


@pytest.fixture
def outbox(tmp_path):
    with contextlib.closing(Outbox(tmp_path / "outbox.sqlite")) as opened:
        yield opened


@pytest.fixture
def service(tmp_path):
    return service_people.service(tmp_path)


@contextlib.contextmanager
def _served(service, port: int = 0, gone_after: int | None = None):
    """Serves at a port; one connection breaks instead of an answer, after some."""
    app = create(service, service_people.TOKENS)
    answers = 0

    async def breaking(scope, receive, send):
        nonlocal answers
        lost = answers == gone_after
        answers += scope["type"] == "http"
        await app(scope, receive, _lost if lost else send)

    async def _lost(message):
        if message["type"] == "http.response.start":
            raise ConnectionError("the answer is lost")

    config = uvicorn.Config(
        breaking, log_level="critical", timeout_graceful_shutdown=1, lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def _sender(port: int, outbox: Outbox, token: str = service_people.TOKEN, **more):
    return Sender(f"http://127.0.0.1:{port}/", token, outbox, **more)


def test_sends_what_waited_while_the_service_was_away(outbox, service):
    said: list[str] = []
    with _served(service) as port:
        outbox.put(_NETWORK, [_row(f"before {i}") for i in range(450)])
        assert _sender(port, outbox).drain(wait_s=30) == 0
    outbox.put(_NETWORK, [_row("away")])
    sender = _sender(port, outbox, say=said.append)
    assert sender.drain(wait_s=0) == 1
    background = Background(sender, outbox)
    with _served(service, port):
        outbox.put(_NETWORK, [_row("back")])
        _wait(lambda: len(outbox) == 0)
    background.stop()
    assert service.count() == 12 + 452
    assert "is away" in said[0] and said[-1] == "The service is back."


def test_a_lost_answer_does_no_harm(outbox, service):
    outbox.put(_NETWORK, [_row("a"), _row("b")])
    with _served(service, gone_after=0) as port:
        # The service has the rows, but the camera does not know.
        assert _sender(port, outbox).drain(wait_s=0) == 2
        assert service.count() == 14
        assert _sender(port, outbox).drain(wait_s=30) == 0
    assert service.count() == 14


@pytest.mark.parametrize(
    "token, network, status",
    [
        ("another token altogether", _NETWORK, 401),
        (service_people.TOKEN, {"name": "other", "checksum": "0" * 64}, 400),
    ],
)
def test_keeps_what_is_refused(outbox, service, token, network, status):
    outbox.put(network, [_row("a")])
    with _served(service) as port:
        background = Background(_sender(port, outbox, token), outbox, most_waiting=0)
        with pytest.raises(RefusedError, match=f"status {status}"):
            background.check()
    assert len(outbox) == 1


def test_stops_while_too_many_rows_wait(outbox):
    outbox.put(_NETWORK, [_row("a")])
    # Nobody listens on port 1, so the row waits for ever.
    Background(_sender(1, outbox, service_people.TOKEN), outbox, most_waiting=0).stop()
    assert len(outbox) == 1


_KILLED = """
import sys
from cdnet_tf.service.outbox import Outbox

outbox = Outbox(sys.argv[1])
for i in range(10**9):
    rows = [{"key": f"{sys.argv[2]} {i} {j}"} for j in range(3)]
    outbox.put({"name": "n", "checksum": "c"}, rows)
    print(i, flush=True)
"""


def test_a_killed_camera_has_all_it_embedded(tmp_path):
    path = tmp_path / "outbox.sqlite"
    draw = random.Random(0)
    for run in range(4):
        command = [sys.executable, "-c", _KILLED, str(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as camera:
            said = [camera.stdout.readline() for _ in range(draw.randrange(2, 30))]
            camera.send_signal(signal.SIGKILL)
            said += camera.stdout.read().splitlines()
        with contextlib.closing(Outbox(path)) as outbox:
            found = {row["key"] for row in outbox.waiting(10**6).rows}
        wanted = {f"{run} {i} {j}" for i in range(len(said)) for j in range(3)}
        # No acknowledged row is missing, and no batch is there in part.
        assert wanted <= found and len(found) % 3 == 0


def test_embeds_each_crop_once(tmp_path, outbox):
    folder = tmp_path / "crops"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.png").write_bytes(service_people.picture("red"))
    (folder / "inner" / "b.jpg").write_bytes(service_people.picture("blue", "JPEG"))
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no image")
    said: list[str] = []
    source = crops.Folder(folder, "door", said.append)
    new = list(source.new(outbox.knows))
    assert len(new) == 2 and "broken.png is left out" in said[0]
    embeds = _embeds()
    outbox.put(_NETWORK, crops.rows(embeds, new, "door", pictures=True))
    assert list(source.new(outbox.knows)) == [] and len(said) == 1
    (folder / "c.png").write_bytes(service_people.picture("lime"))
    (new,) = source.new(outbox.knows)
    age = datetime.datetime.now(datetime.timezone.utc) - new.time
    assert abs(age) < datetime.timedelta(minutes=5)
    # A file that was written just now may be half written.
    assert not list(crops.Folder(folder, "hall", said.append, 60).new(outbox.knows))


def test_forgets_what_is_gone(tmp_path, outbox, monkeypatch):
    for name in ("stays", "goes", "returns"):
        (tmp_path / f"{name}.png").write_bytes(service_people.picture("red"))
    source = crops.Folder(tmp_path, "door", lambda _: None)
    sent = {
        pathlib.Path(crop.key).parts[1]: crop.key for crop in source.new(outbox.knows)
    }
    stays, goes, returns = (sent[f"{n}.png"] for n in ("stays", "goes", "returns"))
    others = ["door/video.mp4/1.0/7", "doors/a.png/1.0", "door/waits.png/1.0"]
    outbox.put(_NETWORK, [_row(key) for key in [*sent.values(), *others]])
    outbox.sent([*sent.values(), *others[:2]])
    now = 1_000_000.0
    monkeypatch.setattr(outbox_module.time, "time", lambda: now)
    files = {name: tmp_path / f"{name}.png" for name in ("goes", "returns")}
    content, changed = files["returns"].read_bytes(), files["returns"].stat()
    for file in files.values():
        file.unlink()
    assert outbox.forget("door", source.holds, 60) == 0
    files["returns"].write_bytes(content)
    os.utime(files["returns"], ns=(changed.st_atime_ns, changed.st_mtime_ns))
    now += 60
    # The image that goes, and the frame of another video.
    assert outbox.forget("door", source.holds, 60) == 2
    assert not outbox.knows(goes) and not outbox.knows(others[0])
    assert all(map(outbox.knows, [stays, returns, *others[1:]])) and len(outbox) == 1
    files["returns"].unlink()
    now += 60
    assert outbox.forget("door", source.holds, 60) == 0
    assert list(source.new(outbox.knows)) == []


def test_rows_are_what_the_service_takes(tmp_path, outbox, service):
    image = PIL.Image.new("RGB", (32, 64), "red")
    crop = crops.Crop("k", service_people.START, image)
    rows = crops.rows(_embeds(), [crop], "gate", pictures=True)
    exact = service_people.MeanColour()(image)[0]
    np.testing.assert_array_equal(np.float32(rows[0]["embedding"]), exact)
    outbox.put(_NETWORK, rows)
    with _served(service) as port:
        assert _sender(port, outbox).drain(wait_s=30) == 0
    (found,) = service._gallery.search("k", 1, cameras="gate")
    assert found.time == service_people.START and found.picture[:2] == b"\xff\xd8"
    assert crops.rows(_embeds(), [crop], "gate", pictures=False)[0]["picture"] is None


def _embeds():
    one = service_people.MeanColour()
    return lambda images, progress: np.concatenate([one(image) for image in images])


def test_takes_some_frames_of_a_video(tmp_path):
    path = tmp_path / "crops.mp4"
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 64, "yuv420p"
        for i in range(30):
            image = PIL.Image.new("RGB", (32, 64), (8 * i, 0, 0))
            video.mux(stream.encode(av.VideoFrame.from_image(image)))
        video.mux(stream.encode())
    # Two of each of three seconds, half a second apart: frames 0, 5, 10, ...
    found = list(crops.frames(path, "door", 2.0, lambda key: key.endswith("/1")))
    assert [crop.key[-1] for crop in found] == ["0", "2", "3", "4", "5"]
    keys = crops.video_keys(path, "door")
    assert found[0].key == f"{keys}0" and keys.startswith("door/crops.mp4/")
    assert found[1].time - found[0].time == datetime.timedelta(seconds=1)
    reds = [np.asarray(crop.image)[..., 0].mean() for crop in found]
    np.testing.assert_allclose(reds, [0, 80, 120, 160, 200], atol=12)
    path.write_bytes(b"no video")
    with pytest.raises(ValueError, match="as a video"):
        list(crops.frames(path, "door", 2.0, lambda key: False))


def test_names_a_file_that_is_no_outbox(tmp_path):
    path = pathlib.Path(tmp_path / "outbox.sqlite")
    path.write_bytes(b"something else" * 100)
    with pytest.raises(OSError, match="name another file"):
        Outbox(path)


def _wait(done) -> None:
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
