"""Pages as Prometheus' own library writes them, read as its own parser reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from made_pages import page_text
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from planner.drift.page import read_page

HASH = "d" * 64
LABELS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('"\\\n{},= '))


@given(st.lists(st.tuples(LABELS, LABELS, st.floats(0, 1e12)), max_size=5))
def test_any_label_and_any_value(rows: list[tuple[str, str, float]]) -> None:
    registry = CollectorRegistry()
    counter = Counter("rb_made", "made", ["a", "b"], registry=registry)
    gauge = Gauge("rb_level", "level", ["a"], registry=registry)
    histogram = Histogram("gen_ai_server_made", "s", ["b"], registry=registry, buckets=(0.5, 2.0))
    for a, b, value in rows:
        counter.labels(a, b).inc(value)
        gauge.labels(a).set(value)
        histogram.labels(b).observe(value)
    plain = generate_latest(registry).decode()
    wanted = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(plain)
        for sample in family.samples
    }
    for text in (plain, openmetrics.generate_latest(registry).decode()):
        found = read_page(page_text([], HASH) + text, "page").values
        made = {s: v for s, v in found.items() if "made" in s[0] or s[0] == "rb_level"}
        assert made == wanted
