"""Metrics, for Prometheus: counted in this process, thread-safe, at less than a microsecond each.

Labels have few values, all of them known beforehand: routes are templates, never paths; nothing tells of a user, a
document or a word of either. Those that are read from the database at a scrape are made by `queue_figures`.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Of what `exposition` gives."""

UNMATCHED = "unmatched"
"""The route of requests that no route takes."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REGISTRY = CollectorRegistry()
PROCESS = ProcessCollector(registry=REGISTRY)
PLATFORM = PlatformCollector(registry=REGISTRY)

HTTP_REQUESTS = Counter(
    "ringfence_http_requests_total",
    "Requests that have ended. Status 0: the client left before an answer began.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "ringfence_http_request_duration_seconds",
    "From a request's arrival to the end of its answer; of a stream, to its last byte.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
    registry=REGISTRY,
)
HTTP_IN_PROGRESS = Gauge(
    "ringfence_http_requests_in_progress", "Requests that are being answered, streams among them.", registry=REGISTRY
)

FIRST_TOKEN_SECONDS = Histogram(
    "ringfence_answer_first_token_seconds",
    "From a question's arrival to the first token of its answer, written by a model.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120),
    registry=REGISTRY,
)
TOKENS = Counter("ringfence_answer_tokens_total", "Token events that were streamed.", registry=REGISTRY)
SENTENCES = Counter(
    "ringfence_answer_sentences_total",
    "Sentences of answers that were checked against the passages that they cite, by verdict.",
    ["verdict"],
    registry=REGISTRY,
)
ANSWERS = Counter(
    "ringfence_answers_total",
    "Answers by how they ended: done, refused (the documents do not answer), broken_off (an error event), interrupted "
    "(the client left), failed (before the first event).",
    ["outcome"],
    registry=REGISTRY,
)
RETRIEVAL_SECONDS = Histogram(
    "ringfence_retrieval_seconds",
    "Finding passages, by stage: embed (the question), search (the tenant's vectors), rerank.",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
RERANKS = Counter(
    "ringfence_reranks_total",
    "Searches that wanted the reranker, by what it did: reranked, slow (its time box ended), failed, paused (it had "
    "failed several times just before).",
    ["outcome"],
    registry=REGISTRY,
)
REWRITES = Counter(
    "ringfence_rewrites_total",
    "Questions that the chat model was to rewrite or to word anew, by what came of it: rewritten, slow, unusable "
    "(empty or absurd), failed, off (there is no model).",
    ["outcome"],
    registry=REGISTRY,
)

MODEL_IN_USE = Gauge(
    "ringfence_model_requests_in_progress",
    "Requests to chat models that have a place, by server: the name of the first model there.",
    ["server"],
    registry=REGISTRY,
)
MODEL_WAITING = Gauge(
    "ringfence_model_requests_waiting", "Requests that wait for a place, likewise.", ["server"], registry=REGISTRY
)
MODEL_BREAKER = Gauge(
    "ringfence_model_breaker_state",
    "Of a chat model: 0 it is asked, 1 it is being tried whether it is back, 2 it is left alone after failures.",
    ["model"],
    registry=REGISTRY,
)
MODEL_FAILURES = Counter(
    "ringfence_model_failures_total",
    "Requests to a chat model that failed by its fault, after all tries, by error code.",
    ["model", "code"],
    registry=REGISTRY,
)
MODEL_FALL_BACKS = Counter(
    "ringfence_model_fall_backs_total",
    "Requests that went to another chat model, by the one that could not answer.",
    ["model"],
    registry=REGISTRY,
)

JOBS = Counter(
    "ringfence_jobs_total",
    "Runs of jobs by how they ended: done, retried (put back for later), parked (given up), handed_back (the worker "
    "stopped), lost (another worker has taken over, or the result could not be saved).",
    ["kind", "outcome"],
    registry=REGISTRY,
)
JOB_SECONDS = Histogram(
    "ringfence_job_duration_seconds",
    "One run of a job, however it ended.",
    ["kind"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
    registry=REGISTRY,
)
PARSE_FAILURES = Counter(
    "ringfence_parse_failures_total", "Documents that could not be read, by error code.", ["code"], registry=REGISTRY
)
INGESTED_PAGES = Counter("ringfence_ingested_pages_total", "Pages of documents that became ready.", registry=REGISTRY)
INGESTED_CHUNKS = Counter(
    "ringfence_ingested_chunks_total", "Passages of documents that became ready.", registry=REGISTRY
)
PASSAGE_VECTORS = Counter(
    "ringfence_passage_vectors_total",
    "Vectors of passages, by whether the model made them or the tenant had them of an equal passage.",
    ["source"],
    registry=REGISTRY,
)
LOG_LINES_DROPPED = Counter(
    "ringfence_log_lines_dropped_total",
    "Log lines that were lost: no room in the queue of what is written here, or of what is shipped.",
    ["queue"],
    registry=REGISTRY,
)
MAILS = Counter(
    "ringfence_mails_total",
    "Tries to hand over a mail, by how they ended: sent, failed.",
    ["outcome"],
    registry=REGISTRY,
)

POOL_WAIT_SECONDS = Histogram(
    "ringfence_db_pool_wait_seconds",
    "Waiting for a database connection, by role, successful or not.",
    ["role"],
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 5),
    registry=REGISTRY,
)
POOL_IN_USE = Gauge(
    "ringfence_db_pool_connections_in_use", "Database connections in use, by role.", ["role"], registry=REGISTRY
)


def request_ended(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request.

    Args:
        method: as the client wrote it; one that is not HTTP's own counts as `other`.
        route: the template of the route that took it, or `UNMATCHED`.
        status: of the answer; 0 where none began.
        seconds: from its arrival to the end of its answer.
    """
    method = method if method in _METHODS else "other"
    HTTP_REQUESTS.labels(method, route, status).inc()
    HTTP_SECONDS.labels(method, route).observe(seconds)


def queue_figures(queue: Iterable[tuple[str, str, int, float]] | None) -> list[Metric]:
    """What a scrape asks the database for.

    Args:
        queue: for each kind and state of jobs their number and the age of the oldest, in seconds; None where the
            database did not say.
    """
    up = GaugeMetricFamily(
        "ringfence_database_up", "1: the database answered this scrape in time.", value=0 if queue is None else 1
    )
    if queue is None:
        return [up]
    figures = list(queue)
    depth = GaugeMetricFamily(
        "ringfence_queue_jobs", "Jobs in the queue (of the whole installation).", labels=["kind", "state"]
    )
    for kind, state, count, _ in figures:
        depth.add_metric([kind, state], count)
    oldest = max((age for _, state, _, age in figures if state == "ready"), default=0.0)
    age = GaugeMetricFamily(
        "ringfence_queue_oldest_ready_age_seconds",
        "Since the oldest job that waits was enqueued; 0 where none waits.",
        value=oldest,
    )
    return [up, depth, age]


class _Scrape:
    """All metrics of one scrape, without the time at which each began to be counted: it would double their number."""

    def __init__(self, more: Iterable[Metric]) -> None:
        self._more = more

    def collect(self) -> Iterator[Metric]:
        for metric in REGISTRY.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._more


def exposition(more: Iterable[Metric]) -> bytes:
    """This process's metrics and some more, in Prometheus's text format."""
    return generate_latest(_Scrape(more))
