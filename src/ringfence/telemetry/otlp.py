"""Sending spans over OTLP/HTTP. Imported only where that is set up: see `traces.configure_tracing`."""

import logging
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from ringfence import __version__

_SEND_SECONDS = 5.0  # for one batch, with its retries
_QUEUE = 4096  # spans that may wait; some 2 kB each
_BATCH = 512


def open_provider(url: str, headers: Mapping[str, str], sample_ratio: float, every: float) -> TracerProvider:
    """What makes spans and sends them in batches from a thread of its own.

    Args:
        url: where they are posted.
        headers: sent along.
        sample_ratio: the share of traces that is recorded; spans follow their trace.
        every: seconds between two sendings.
    """
    # One line for a batch that is lost, and none for each of its retries.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create({SERVICE_NAME: "ringfence", SERVICE_VERSION: __version__}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=url, headers=headers, timeout=_SEND_SECONDS)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter, max_queue_size=_QUEUE, schedule_delay_millis=every * 1000, max_export_batch_size=_BATCH
        )
    )
    return provider
