# syntax=docker/dockerfile:1
# One image for the API (`serve`, the default), the worker (`worker`) and `migrate`. See docs/deployment.md.

# The only base. Where the registry can be reached, add its digest here, and Dependabot keeps both up to date:
#   docker buildx imagetools inspect python:3.13-slim-trixie --format '{{.Manifest.Digest}}'
FROM python:3.13-slim-trixie AS base

# --- build: the environment from the lock, every file checked against its hash ---
FROM base AS build
WORKDIR /build
ENV UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/ringfence
COPY scripts/uv.txt scripts/build.txt scripts/
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes --requirement scripts/uv.txt
COPY requirements.txt ./
RUN --mount=type=cache,target=/cache \
    uv venv --no-project --python /usr/local/bin/python "$VIRTUAL_ENV" \
    && uv pip sync --require-hashes --no-build requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/cache \
    uv pip install --no-deps --build-constraints scripts/build.txt .

# --- runtime: no compiler, no uv, no root ---
FROM base AS runtime
# libgomp is the embedded chat model's; Debian keeps only its newest version, so none can be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-log-init --home-dir /data --no-create-home --shell /usr/sbin/nologin ringfence \
    && install --directory --owner ringfence --group ringfence --mode 0700 /data
COPY --from=build /opt/ringfence /opt/ringfence
ENV PATH="/opt/ringfence/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RINGFENCE_DATA_DIR=/data \
    RINGFENCE_MODELS_DIR=/data/models \
    RINGFENCE_HOST=0.0.0.0 \
    RINGFENCE_PORT=8000
LABEL org.opencontainers.image.title="Ringfence" \
      org.opencontainers.image.description="Multi-tenant RAG engine: every user ring-fenced inside PostgreSQL" \
      org.opencontainers.image.licenses="AGPL-3.0-or-later"
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# Ready, not merely alive: both database roles answer. The standard library alone, so that it costs next to nothing.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-ISc", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['RINGFENCE_PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["ringfence"]
CMD ["serve"]
