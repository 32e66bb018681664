"""Numbers as Prometheus reads them."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest

from curate.edge.runtime.metrics import CONTENT_TYPE, Histogram, Metrics, parse_address, serving
from curate.errors import UnavailableError, UsageError

SAMPLE = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? (\S+)')


def test_the_text_is_the_format() -> None:
    metrics = Metrics()
    metrics.describe("counter", {"things_total": "Things.\nMany.", "none_total": "Nothing yet."})
    metrics.describe("gauge", {"drift": "How far."})
    metrics.add("things_total", label='a "bolt"\\\n')
    metrics.add("things_total", 2, label='a "bolt"\\\n')
    metrics.set("drift", 0.25)
    metrics.histogram("latency_seconds", "How long.", [0.1, 1.0]).observe(0.1)

    lines = metrics.render().splitlines()

    assert lines == [
        "# HELP curate_things_total Things.\\nMany.",
        "# TYPE curate_things_total counter",
        'curate_things_total{label="a \\"bolt\\"\\\\\\n"} 3.0',
        "# HELP curate_none_total Nothing yet.",
        "# TYPE curate_none_total counter",
        "# HELP curate_drift How far.",
        "# TYPE curate_drift gauge",
        "curate_drift 0.25",
        "# HELP curate_latency_seconds How long.",
        "# TYPE curate_latency_seconds histogram",
        'curate_latency_seconds_bucket{le="0.1"} 1',
        'curate_latency_seconds_bucket{le="1.0"} 1',
        'curate_latency_seconds_bucket{le="+Inf"} 1',
        "curate_latency_seconds_sum 0.1",
        "curate_latency_seconds_count 1",
    ]
    assert all(line.startswith("#") or SAMPLE.match(line) for line in lines)
    assert metrics.render().endswith("\n")


def test_quantiles_lie_in_their_range() -> None:
    histogram = Histogram([1, 2, 4, 8])
    for value in (0.5, 1.5, 1.6, 3, 100):
        histogram.observe(value)

    assert histogram.quantile(0.2) == 1
    assert histogram.quantile(0.6) == 2
    assert histogram.quantile(0.5) == pytest.approx(1.75)
    assert histogram.quantile(1.0) == 8  # beyond the last end nothing is known
    assert Histogram([1]).quantile(0.5) is None


def test_they_are_served_on_this_machine_alone() -> None:
    well = [True]
    with serving(lambda: "curate_x 1\n", "0", healthy=lambda: well[0]) as address:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address) as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"curate_x 1\n", CONTENT_TYPE)
        root = address.removesuffix("/metrics")
        assert urllib.request.urlopen(f"{root}/healthz").read() == b"ok\n"
        well[0] = False
        for path, status in (("healthz", 503), ("etc/passwd", 404)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{root}/{path}")
            caught.value.close()
            assert caught.value.code == status
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


def test_a_port_that_is_taken_is_told() -> None:
    with serving(str, "0", healthy=bool) as address:
        port = address.split(":")[2].partition("/")[0]
        with pytest.raises(UnavailableError, match="cannot be served"), serving(str, port, healthy=bool):
            pass


def test_addresses() -> None:
    assert parse_address("9464") == ("127.0.0.1", 9464)
    assert parse_address("0.0.0.0:80") == ("0.0.0.0", 80)
    for text in ("x", "1.2.3.4:", "host:99999", ""):
        with pytest.raises(UsageError, match="no address"):
            parse_address(text)
