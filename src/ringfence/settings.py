"""Settings: read once, by a door, from `RINGFENCE_*` and `.env`; everybody else is handed the slice it needs."""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from ringfence.errors import SetupError
from ringfence.setting_types import ChatModelEntries, Items, Money, Provider, Seconds, is_web_address

MIN_SECRET_LENGTH = 32
MAX_OBJECT_BYTES = 5 * 2**30
"""The largest object that S3 copies at once."""

_FILE = ".env"
_LANGUAGES = r"^[a-z]{2,3}(,[a-z]{2,3})*$"
# Of the command line's clients, the tests and the compose file.
_OTHERS = {
    *("RINGFENCE_URL", "RINGFENCE_EMAIL", "RINGFENCE_PASSWORD", "RINGFENCE_TOKEN"),
    "RINGFENCE_DOCUMENT_PASSWORD",
    *("RINGFENCE_EVALDATA", "RINGFENCE_TEST_DATABASE_URL", "RINGFENCE_TEST_MODELS_DIR", "RINGFENCE_IMAGE"),
}
# What Pydantic says for programmers, in an operator's words.
_SENTENCES = {
    "too_short": f"it needs {MIN_SECRET_LENGTH} characters or more",
    "string_pattern_mismatch": "it takes an address that begins with http:// or https://",
    "float_parsing": "it takes a number, without a unit",
    "int_parsing": "it takes a whole number, without a unit",
    "int_from_float": "it takes a whole number",
}


class Settings(BaseSettings):
    """All settings of one process. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_", env_file=_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("ringfence"),
        description="Where files, logs and the embedded PostgreSQL live.",
    )
    models_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("ringfence") / "models",
        description="Where model weights are kept, named by their SHA-256.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Below which nothing is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Of standard output; `auto`: readable on a terminal, JSON elsewhere."
    )
    log_file: Path | Literal["off"] | None = Field(
        default=None,
        description="Path, or `off`; unset: `logs/ringfence.jsonl` in the data folder, if it can be written.",
    )
    log_file_max_bytes: int = Field(default=50 * 2**20, ge=2**16, description="After which a new log file begins.")
    log_file_seconds: int = Field(
        default=86400,
        ge=60,
        description="Length of a period, the first from 1970 in UTC; each has a log file of its own.",
    )
    log_files: int = Field(default=10, ge=1, le=1000, description="Older log files that are kept.")
    betterstack_source_token: SecretStr | None = Field(
        default=None, min_length=1, description="Source token at Better Stack; unset: logs stay here."
    )
    betterstack_url: str = Field(
        default="https://in.logs.betterstack.com", pattern="^https?://.", description="Where that source takes logs in."
    )

    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the API listens on; 0 picks a free one.")
    public_url: str = Field(
        default="",
        description="Where people reach the engine, e.g. `https://rag.example.org`; the `iss` and `aud` of its tokens.",
    )
    trusted_proxies: Items = Field(
        default=(),
        description="Proxies, as addresses or networks, whose `X-Forwarded-For` and `-Proto` the API believes.",
    )
    cors_origins: Items = Field(
        default=(), description="Other sites whose scripts may use the API, e.g. `https://app.example.org`."
    )
    shutdown_grace: Seconds = Field(
        default=10.0, description="That open requests and streams get to end after SIGTERM; then streams are told."
    )
    secret_key: SecretStr | None = Field(
        default=None,
        min_length=MIN_SECRET_LENGTH,
        description="32 or more random characters; all keys derive from it.",
    )
    access_token_seconds: int = Field(default=900, ge=60, le=86400, description="Life of an access token.")
    session_days: int = Field(default=30, ge=1, le=400, description="Days after which one has to sign in again.")
    signing_key_days: int = Field(
        default=90, ge=1, le=3650, description="Days after which a new key signs access tokens."
    )
    code_seconds: int = Field(default=600, ge=60, le=600, description="Life of a one-time code.")
    bcrypt_cost: int = Field(default=12, ge=4, le=16, description="Work factor of password hashes.")

    requests_per_minute: int = Field(
        default=600,
        ge=0,
        description="Requests by one API key, or by one user's sessions, at once and in a minute; 0: no limit.",
    )
    network_requests_per_hour: int = Field(
        default=600,
        ge=0,
        description="Calls to register, verify, resend, forgot and reset from one network (of IPv6 the first 64 bits), "
        "at once and in an hour; offices and schools may share one; 0: no limit.",
    )
    quota_documents: int = Field(
        default=10_000,
        ge=0,
        description="Documents of one user. This and the next stop a program that runs wild, or a stranger who "
        "registers, before the disk is full, and few people before that; operators set others' own; 0: no limit.",
    )
    quota_bytes: int = Field(
        default=10 * 2**30, ge=0, description="Bytes that all documents of one user have together; 0: no limit."
    )
    quota_questions_per_day: int = Field(
        default=1000,
        ge=0,
        description="Questions of one user in a day (UTC), more than a person asks: each costs seconds of a model; "
        "0: no limit.",
    )
    evaluations_per_hour: int = Field(
        default=10, ge=0, description="Evaluations that one user may begin, at once and in an hour; 0: no limit."
    )
    evaluation_max_questions: int = Field(default=500, ge=1, le=10_000, description="Questions of one evaluation.")

    database_url: SecretStr | None = Field(
        default=None, description="An administrator's PostgreSQL URL, used to migrate; unset: the embedded PostgreSQL."
    )
    app_database_url: SecretStr | None = Field(
        default=None, description="URL of the app's role (a pooler's, say); unset: derived from the administrator's."
    )
    system_database_url: SecretStr | None = Field(
        default=None, description="URL of the system role; unset: derived from the administrator's."
    )
    db_pool_size: int = Field(default=10, ge=1, le=500, description="Connections per role and process.")
    db_connect_timeout: Seconds = Field(default=1.5, description="To get a connection.")
    db_command_timeout: Seconds = Field(default=2.0, description="For one statement of a request.")
    db_statement_cache: int = Field(
        default=100, ge=0, description="Prepared statements per connection; 0 behind a pooler."
    )

    smtp_host: str | None = Field(default=None, description="Mail server; required by `ringfence serve`.")
    smtp_port: int = Field(default=587, ge=1, le=65535, description="Mail server's port.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(default="starttls", description="How mail is encrypted.")
    smtp_username: str | None = Field(default=None, description="Mail account, where the server wants one.")
    smtp_password: SecretStr | None = Field(default=None, description="Its password.")
    smtp_timeout: Seconds = Field(default=10.0, description="For one mail.")
    mail_from: str = Field(default="ringfence@localhost", description="Sender's address.")

    embedding_provider: Provider = Field(default="embedded", description="Who makes vectors.")
    embedding_url: str | None = Field(default=None, description="Base URL of the embedding server.")
    embedding_api_key: SecretStr | None = Field(default=None, description="Its key, where it wants one.")
    embedding_model: str | None = Field(default=None, description="Model's name there.")
    embedding_tokenizer: Path | None = Field(
        default=None,
        description="That model's `tokenizer.json`, to cut chunks by its tokens; unset: they are estimated by script.",
    )
    rerank_provider: Literal["none", "cohere", "tei"] = Field(
        default="none",
        description="Who reranks: a server with `/rerank` in Cohere's form, as Jina, vLLM and llama.cpp have it, or "
        "in that of Text Embeddings Inference (`tei`).",
    )
    rerank_url: str | None = Field(default=None, description="Base URL of the reranker, with its version.")
    rerank_api_key: SecretStr | None = Field(default=None, description="Its key, where it wants one.")
    rerank_model: str | None = Field(default=None, description="Model's name there.")
    rerank_timeout: Seconds = Field(
        default=1.0, description="That a search waits for the reranker; then the order stays as it was."
    )
    rerank_candidates: int = Field(
        default=50, ge=2, le=100, description="Passages that the reranker reads for a search."
    )
    rewrite_timeout: Seconds = Field(
        default=3.0, description="That a search waits for the chat model to rewrite a follow-up question."
    )
    embedding_languages: str | None = Field(
        default=None,
        pattern=_LANGUAGES,
        description="Languages that model covers, as ISO 639-1 codes with commas, e.g. `en,de`; unset: all. In others, "
        "search lays more weight on words.",
    )
    embedding_batch_texts: int = Field(
        default=32,
        ge=1,
        le=512,
        description="Texts that an embedding server gets at once; fewer where it refuses them.",
    )
    embedding_batch_tokens: int = Field(
        default=8192, ge=64, description="Tokens, estimated by script, of those texts together."
    )
    embedding_next_provider: Provider | None = Field(
        default=None,
        description="Who makes vectors of the model that is to take the place of the one above, user by user "
        "(`ringfence admin reembed`); unset: none is.",
    )
    embedding_next_url: str | None = Field(default=None, description="Base URL of its server.")
    embedding_next_api_key: SecretStr | None = Field(default=None, description="Its key, where it wants one.")
    embedding_next_model: str | None = Field(default=None, description="Its name there.")
    embedding_next_tokenizer: Path | None = Field(default=None, description="Its `tokenizer.json`.")
    embedding_next_languages: str | None = Field(
        default=None, pattern=_LANGUAGES, description="Languages that it covers, as above."
    )
    chat_provider: Literal["embedded", "ollama", "openai", "none"] = Field(
        default="embedded", description="Who writes answers; `none`: quoted evidence alone."
    )
    chat_url: str | None = Field(default=None, description="Base URL of the chat server.")
    chat_api_key: SecretStr | None = Field(default=None, description="Its key, where it wants one.")
    chat_model: str | None = Field(
        default=None, description="Model's name there; of the embedded: as `ringfence model list` says."
    )
    chat_context_tokens: int = Field(default=8192, ge=1024, description="Context window of the chat model.")
    chat_models: ChatModelEntries = Field(
        default=(), description="Further chat models, which users may choose: objects as of docs/models.md."
    )
    chat_fall_back: Items = Field(
        default=(),
        description="Names of those that answer where the one above can't, in turn; their servers see questions then.",
    )
    chat_at_once: int | None = Field(
        default=None,
        ge=1,
        description="Requests to a chat server at once, from each process; unset: 2 (embedded) or 256.",
    )
    chat_waiting: int = Field(
        default=200, ge=0, description="Requests that wait for their turn; beyond them users hear `model_busy`."
    )
    chat_wait_timeout: Seconds = Field(default=30.0, description="That each of them waits.")
    chat_tries: int = Field(default=3, ge=1, le=10, description="Of a request that fails before its first word.")
    chat_prompt_price: Money | None = Field(default=None, description="Of a million tokens that the chat model reads.")
    chat_completion_price: Money | None = Field(default=None, description="Of a million tokens that it writes.")
    chat_currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="Of all prices, as ISO 4217 has it.")
    passage_tokens: int | None = Field(
        default=None,
        ge=100,
        description="Passages' tokens in a prompt; unset: 500 (embedded model) or 3000.",
    )
    answer_tokens: int = Field(default=512, ge=16, description="Longest answer, in tokens.")
    resume_seconds: float = Field(
        default=15.0,
        ge=0,
        le=600,
        description="That an answer asked for as resumable is written on after its reader was lost.",
    )
    model_connect_timeout: Seconds = Field(default=3.0, description="To reach a model server.")
    model_first_token_timeout: Seconds = Field(default=120.0, description="Until the first token of an answer.")
    model_token_timeout: Seconds = Field(default=15.0, description="Between two tokens.")
    model_total_timeout: Seconds = Field(default=300.0, description="For a whole answer.")
    relevance_floor: float = Field(
        default=0.25,
        ge=-1,
        le=1,
        description="Best cosine below which the documents do not answer.",
    )
    answer_strict: bool = Field(
        default=False,
        description="Whether each sentence of an answer is held back until it is checked against what it cites; a "
        "question may say otherwise.",
    )
    entailment_url: str | None = Field(
        default=None,
        description="Base URL of a server with a model of natural language inference, in the form of Text Embeddings "
        "Inference (`/predict`), which then checks answers; unset: words, numbers, names and vectors do.",
    )
    entailment_api_key: SecretStr | None = Field(default=None, description="Its key, where it wants one.")
    check_timeout: Seconds = Field(
        default=2.0, description="That the check of a sentence waits for a model; then words alone decide."
    )

    promote_at: int = Field(
        default=20_000,
        ge=100,
        description="Vectors from which `ringfence maintain` gives a user a table and an index of their own; below, "
        "exact search is fast enough.",
    )
    demote_at: int = Field(
        default=10_000,
        ge=50,
        description="Vectors below which they lose them again; also the passages up to which a narrowed search is "
        "exact.",
    )
    promoted_most: int = Field(
        default=200, ge=0, le=5000, description="Users who have them at once; the others are searched exactly."
    )
    ef_search: int = Field(
        default=400,
        ge=10,
        le=1000,
        description="Candidates that a search in an index of up to 25,000 passages keeps, and more of them in a larger "
        "one (twice as many at 100,000, 1,000 at most); more find more, and take longer.",
    )

    storage: Literal["local", "s3"] = Field(
        default="local", description="Where files are kept: in the data folder, or in a bucket."
    )
    s3_bucket: str | None = Field(default=None, description="Bucket of an S3-compatible storage, which exists.")
    s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]",
        description="Its base URL; unset: Amazon's of the region.",
    )
    s3_region: str = Field(default="us-east-1", min_length=1, description="The bucket's region.")
    s3_prefix: str = Field(default="", description="Under which the files are in the bucket, e.g. `ringfence/prod`.")
    s3_access_key_id: str | None = Field(
        default=None, description="Access key; unset: what Amazon's variables, files and roles say."
    )
    s3_secret_access_key: SecretStr | None = Field(default=None, description="Its secret.")
    s3_timeout: Seconds = Field(default=20.0, description="That the storage may be silent.")
    upload_max_bytes: int = Field(default=100 * 2**20, ge=1, description="Largest document.")
    upload_idle_timeout: Seconds = Field(default=60.0, description="That a client may pause in an upload.")
    trash_hours: float = Field(
        default=24.0,
        ge=0,
        le=8760,
        description="Hours in which a deleted document can be restored, and counts against the quota; 0: none.",
    )
    body_max_bytes: int = Field(default=2**20, ge=1024, description="Largest other request body.")
    chunk_tokens: int = Field(
        default=200,
        ge=64,
        le=8192,
        description="Longest chunk with its headings, in the embedding model's tokens; the embedded model reads 256.",
    )
    chunk_overlap_tokens: int = Field(default=32, ge=0, description="Tokens that neighbouring chunks share at most.")
    worker_slots: int = Field(default=4, ge=1, le=64, description="Jobs that one worker runs at once.")
    job_lease: Seconds = Field(default=15.0, description="After which a silent worker's job goes to another.")
    parse_processes: int = Field(default=2, ge=1, le=64, description="Documents that one worker parses at once.")
    parse_cpu_seconds: int = Field(default=30, ge=1, description="CPU time for one document.")
    parse_memory_bytes: int = Field(default=2 * 2**30, ge=2**28, description="Address space of one parser.")
    parse_wall_seconds: Seconds = Field(default=90.0, description="Wall time for one document.")
    parse_max_pages: int = Field(default=10_000, ge=1, description="Pages of one document.")
    ocr: Literal["auto", "off"] = Field(
        default="auto", description="Whether scans are read with Tesseract's data, where they are installed."
    )
    ocr_languages: str = Field(
        default="eng+deu",
        description="Languages of scans, as Tesseract names its data; those that are not installed are left out.",
    )
    ocr_cpu_seconds: int = Field(default=600, ge=1, description="CPU time for the scanned pages of one document.")
    parse_max_chars: int = Field(default=50_000_000, ge=1000, description="Characters of one document.")
    page_processes: int = Field(
        default=2, ge=1, le=64, description="Pages that one server draws, or finds words on, at once."
    )
    page_seconds: Seconds = Field(default=15.0, description="CPU time and wall time for one page.")

    metrics_host: str = Field(default="127.0.0.1", description="Address that `/metrics` and health checks listen on.")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of `/metrics` and health checks, of the API and of each worker; `ringfence run` gives its "
        "worker the next one; 0 picks a free one; unset: none.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]",
        description="Base URL of an OpenTelemetry collector (OTLP over HTTP) that gets traces; unset: no traces.",
    )
    otlp_headers: SecretStr | None = Field(
        default=None, description="Headers for it, `name=value`, comma-separated, values percent-encoded."
    )
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1, description="Share of traces that is recorded.")

    @field_validator("public_url")
    @classmethod
    def _an_address_of_the_web(cls, value: str) -> str:
        if value and not is_web_address(value, path=True):
            raise ValueError("it is no address like https://rag.example.org")
        return value.rstrip("/")

    @field_validator("s3_prefix")
    @classmethod
    def _a_path_of_plain_names(cls, value: str) -> str:
        if value and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*/?", value, re.ASCII):
            raise ValueError("it takes names of letters, digits, dots and hyphens, with slashes between them")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            try:
                ipaddress.ip_network(value)
            except ValueError:
                raise ValueError(
                    "it takes addresses and networks like 10.0.0.5, 172.16.0.0/12, between commas"
                ) from None
        return values

    @field_validator("ocr_languages")
    @classmethod
    def _languages(cls, value: str) -> str:
        if not all(name.replace("_", "").isalpha() and name.isascii() for name in value.split("+")):
            raise ValueError("it takes Tesseract's names of languages with + between them, like eng+deu")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_web_address(value, path=False) for value in values):
            raise ValueError("it takes origins like https://app.example.org, without a path, between commas")
        return values

    @model_validator(mode="after")
    def _chunks_overlap_by_half_at_most(self) -> Self:
        if self.chunk_overlap_tokens > self.chunk_tokens // 2:
            raise ValueError("RINGFENCE_CHUNK_OVERLAP_TOKENS is more than half of RINGFENCE_CHUNK_TOKENS")
        return self

    @model_validator(mode="after")
    def _who_was_promoted_stays_so(self) -> Self:
        if self.demote_at >= self.promote_at:
            raise ValueError("RINGFENCE_DEMOTE_AT is not less than RINGFENCE_PROMOTE_AT")
        return self

    @model_validator(mode="after")
    def _a_bucket_takes_the_largest_document(self) -> Self:
        if self.storage == "s3" and self.upload_max_bytes > MAX_OBJECT_BYTES:
            raise ValueError("RINGFENCE_UPLOAD_MAX_BYTES is more than the 5 GiB that a bucket takes in one copy")
        return self


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        SetupError: a setting is wrong or mistyped; the message names it as people write it, without its value.
    """
    refuse_mistyped([*dotenv_values(_FILE), *os.environ])
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # Pydantic checks them
    except ValidationError as error:
        wrong = "; ".join(_wrong(item) for item in error.errors())
        raise SetupError("bad_setting", f"These settings are wrong: {wrong}.") from None


def refuse_mistyped(names: Iterable[str]) -> None:
    """Refuse the name of a variable that is no setting but looks like one: it would be silently without effect.

    Raises:
        SetupError: there is one; the message says which setting may be meant.
    """
    known = {f"RINGFENCE_{name}".upper() for name in Settings.model_fields}
    for name in sorted(names):
        if name.startswith("RINGFENCE_") and name not in known and not name.startswith("RINGFENCE_TEST_"):
            for meant in difflib.get_close_matches(name, known, n=1, cutoff=0.9):
                raise SetupError("bad_setting", f"{name} is no setting. Did you mean {meant}?")


def _wrong(item: ErrorDetails) -> str:
    """What is wrong with a setting, or with several together, without its value."""
    loc = [str(part) for part in item["loc"]]
    name = f"RINGFENCE_{loc[0]}".upper() + "".join(f".{part}" for part in loc[1:]) + ": " if loc else ""
    return name + _SENTENCES.get(item["type"], item["msg"].removeprefix("Value error, "))


def unknown(names: Iterable[str] | None = None) -> list[str]:
    """Names that begin like a setting's and are none, so that they have no effect.

    By default those of the environment and of `.env`. What tests and packaging use is left out.
    """
    given = [*dotenv_values(_FILE), *os.environ] if names is None else names
    known = {f"RINGFENCE_{name}".upper() for name in Settings.model_fields} | _OTHERS
    return sorted(name for name in given if name.startswith("RINGFENCE_") and name not in known)
