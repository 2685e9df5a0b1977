"""Text that goes to the file descriptor, as from C++, instead of `sys.stderr`."""

import os
import sys
import threading
import time

import pytest

from cdnet_tf.deploy import quiet


def test_holds_back_what_python_and_what_others_write(capfd):
    with quiet.held_back():
        os.write(2, b"table\n")
        print("warning", file=sys.stderr)
        print("result")
    print("after", file=sys.stderr)
    assert capfd.readouterr() == ("result\n", "after\n")


def test_shows_everything_where_the_body_raises(capfd):
    with pytest.raises(ValueError, match="broken"), quiet.held_back():
        os.write(2, b"the reason\n")
        raise ValueError("broken")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "the reason\nafter\n"


def test_leaves_no_file_descriptor_open():
    before = os.listdir("/dev/fd")
    with quiet.held_back():
        pass
    assert os.listdir("/dev/fd") == before


def test_may_be_nested(capfd):
    with quiet.held_back():
        with quiet.held_back():
            os.write(2, b"inner\n")
        os.write(2, b"outer\n")
    assert capfd.readouterr().err == ""


def test_threads_take_turns(capfd):
    barrier = threading.Barrier(2)

    def hold():
        barrier.wait()
        with quiet.held_back():
            time.sleep(0.02)

    both = [threading.Thread(target=hold) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
