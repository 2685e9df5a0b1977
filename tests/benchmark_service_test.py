"""The benchmark of the service says what it measured."""

import json

from absl import flags
from absl.testing import flagsaver

from tools import benchmark_service


def test_times_searches_over_http(capsys):
    few = ["--service_rows=60", "--service_searches=2"]
    network = "market1501/cdnet_x0_25_int8"
    with flagsaver.flagsaver():
        flags.FLAGS(["benchmark_service", *few, f"--service_model={network}"])
        benchmark_service.main(["benchmark_service"])
    said = json.loads(capsys.readouterr().out)
    assert said["network"] == network
    assert said["rows"] == 60 and said["searches"] == 2
    assert 0 < said["median_ms"] <= said["slowest_of_twenty_ms"]
