"""The real programs: a gallery is filled and served, with a real network."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.parse

import urllib3

from cdnet_tf.pedestrians import writer
from cdnet_tf.service.outbox import Outbox
from cdnet_tf.service.sending import Sender

_MODEL = "market1501/cdnet_x0_25_int8"
# All programs in one process, for importing TensorFlow takes seconds. The camera's
# service is not there yet.
_PROGRAMS = """
import os, sys
from absl import flags
from tools import fill_gallery

data, queue, *shared = sys.argv[1:]
flags.FLAGS(["fill_gallery", *shared, f"--data_dir={data}"])
fill_gallery.main(["fill_gallery"])
del flags.FLAGS.model, flags.FLAGS.gallery

from tools import camera

flags.FLAGS(["camera", shared[1], f"--input={data}/query", f"--queue={queue}",
             "--camera=gate", "--service=http://127.0.0.1:9/", "--wait_s=0"])
os.environ["CDNET_GALLERY_TOKEN"] = "no service looks at it"
try:
    camera.main(["camera"])
except SystemExit as waiting:
    print(waiting)
del flags.FLAGS.model, os.environ["CDNET_GALLERY_TOKEN"]

from cdnet_tf import serve_gallery

flags.FLAGS(["serve_gallery", *shared, "--port=0", "--keep_days=30"])
serve_gallery.main(["serve_gallery"])
"""


def test_fills_and_serves_a_gallery(tmp_path):
    data, place, queue = (tmp_path / name for name in ("people", "gallery", "queue"))
    writer.write_pedestrians(
        data, train_identities=4, test_identities=4, distractors=4, junk=2
    )
    arguments = [data, queue, f"--gallery={place}", f"--model={_MODEL}"]
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAMS, *arguments], stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            output = ""
            while "/docs" not in output:
                line = program.stdout.readline()
                assert line, output
                output += line
            # Each of 4 people has an image under each of 6 cameras, besides the
            # queries; there are 4 distractors, and junk is left out.
            assert "28 images added, 28 in all" in output
            assert "24 rows wait in" in output
            assert "deleted and erased after 30 days" in output
            token, page = _opened(output)
            _search(token, page, data)
            with contextlib.closing(Outbox(queue)) as outbox:
                assert Sender(page, token, outbox).drain(wait_s=30) == 0
        finally:
            program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 0 or program.returncode == -signal.SIGTERM
    state = tmp_path / "gallery_service"
    audited = [json.loads(line) for line in (state / "audit.jsonl").open()]
    # The service erases in a thread when it starts; nobody is too old.
    erased = [line["count"] for line in audited if line["kind"] == "erase"]
    assert not any(erased)
    search, add = (line for line in audited if line["kind"] != "erase")
    assert (search["kind"], add["kind"], add["count"]) == ("search", "add", 24)
    assert search["who"] == "first"


def _opened(output: str) -> tuple[str, str]:
    token = re.search(r"shown only now: (\S+)", output)[1]
    return token, re.search(r"The page: (http://127\.0\.0\.1:\d+/)", output)[1]


def _search(token: str, page: str, data: pathlib.Path) -> None:
    query = next(data.glob("query/*.jpg"))
    found = urllib3.request(
        "POST",
        urllib.parse.urljoin(page, "v1/search/photo?k=3"),
        headers={"Authorization": f"Bearer {token}"},
        fields={"photo": ("query.jpg", query.read_bytes())},
    ).json()
    assert found["matches"][0]["distance"] < found["matches"][2]["distance"]
    assert found["threshold"] > 0
    names = {path.name for path in data.glob("bounding_box_test/*.jpg")}
    assert {match["key"] for match in found["matches"]} <= names
