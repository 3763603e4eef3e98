import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ringfence.telemetry.metrics import CONTENT_TYPE, REGISTRY, exposition, queue_figures, request_ended
from tests.rules import house
from tests.scraping import Deltas, of_this_process, samples

QUEUE = [("ingest", "parked", 2, 900.0), ("ingest", "ready", 3, 7.5), ("mail", "ready", 1, 40.25)]


def families(text):
    return list(text_string_to_metric_families(text))


def test_what_is_shown_can_be_read_and_is_named_by_the_rules():
    text = exposition(queue_figures(QUEUE)).decode()
    for family in families(text):
        assert family.documentation
        assert re.match(r"ringfence_|process_|python_", family.name)
        assert not re.search(r"_(ms|millis|milliseconds|minutes|kb|mb)\b", family.name)
    assert "_created" not in text
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_every_metric_is_documented_and_no_other():
    page = (house.ROOT / "docs" / "operations.md").read_text()
    section = page.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(ringfence_\w+)`", section, re.MULTILINE))
    metrics = [*REGISTRY.collect(), *queue_figures(QUEUE)]
    names = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in metrics}
    assert named == {name for name in names if name.startswith("ringfence_")}


def test_the_queue_by_kind_and_state_and_the_age_of_what_waits():
    found = samples(exposition(queue_figures(QUEUE)).decode())
    assert found["ringfence_database_up{}"] == 1
    assert found["ringfence_queue_jobs{kind=ingest,state=ready}"] == 3
    assert found["ringfence_queue_jobs{kind=ingest,state=parked}"] == 2
    assert found["ringfence_queue_oldest_ready_age_seconds{}"] == 40.25


def test_an_empty_queue_has_no_age():
    found = samples(exposition(queue_figures([])).decode())
    assert found["ringfence_queue_oldest_ready_age_seconds{}"] == 0
    assert not any(name.startswith("ringfence_queue_jobs") for name in found)


def test_where_the_database_says_nothing_nothing_is_made_up():
    found = samples(exposition(queue_figures(None)).decode())
    assert found["ringfence_database_up{}"] == 0
    assert not any(name.startswith("ringfence_queue") for name in found)
    assert any(name.startswith("process_cpu_seconds_total") for name in found)
    assert any(name.startswith("python_info") for name in found)


@pytest.mark.parametrize(("method", "label"), [("GET", "GET"), ("BREW", "other"), ("get", "other")])
async def test_a_method_that_a_client_makes_up_is_no_label_of_its_own(method, label):
    deltas = Deltas(await of_this_process())
    request_ended(method, "/x", 200, 0.1)
    assert deltas.of(await of_this_process(), "ringfence_http") == {
        f"ringfence_http_requests_total{{method={label},route=/x,status=200}}": 1,
        f"ringfence_http_request_duration_seconds_count{{method={label},route=/x}}": 1,
    }
