"""Settings: read once, by a door, from `RINGFENCE_*` and `.env`; everybody else is handed the slice it needs."""

from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from ringfence.errors import SetupError

type Seconds = Annotated[float, Field(gt=0)]
type Provider = Literal["embedded", "ollama", "openai"]

MIN_SECRET_LENGTH = 32


class Settings(BaseSettings):
    """All settings of one process. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("ringfence"),
        description="Where files, logs and the embedded PostgreSQL live.",
    )
    models_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("ringfence") / "models",
        description="Where model weights are kept, named by their SHA-256.",
    )

    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port the API listens on; 0 picks a free one.")
    public_url: str = Field(default="", description="Where people reach the engine; the `iss` and `aud` of its tokens.")
    secret_key: SecretStr | None = Field(
        default=None,
        min_length=MIN_SECRET_LENGTH,
        description="32 or more random characters; all keys derive from it.",
    )
    access_token_seconds: int = Field(default=900, ge=60, le=86400, description="Life of an access token.")
    code_seconds: int = Field(default=600, ge=60, le=600, description="Life of a one-time code.")
    bcrypt_cost: int = Field(default=12, ge=4, le=16, description="Work factor of password hashes.")

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
    chat_provider: Literal["embedded", "ollama", "openai", "none"] = Field(
        default="embedded", description="Who writes answers; `none`: quoted evidence alone."
    )
    chat_url: str | None = Field(default=None, description="Base URL of the chat server.")
    chat_api_key: SecretStr | None = Field(default=None, description="Its key, where it wants one.")
    chat_model: str | None = Field(
        default=None, description="Model's name there; of the embedded: as `ringfence model list` says."
    )
    chat_context_tokens: int = Field(default=8192, ge=1024, description="Context window of the chat model.")
    passage_tokens: int | None = Field(
        default=None,
        ge=100,
        description="Passages' tokens in a prompt; unset: 500 (embedded model) or 3000.",
    )
    answer_tokens: int = Field(default=512, ge=16, description="Longest answer, in tokens.")
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

    upload_max_bytes: int = Field(default=100 * 2**20, ge=1, description="Largest document.")
    body_max_bytes: int = Field(default=2**20, ge=1024, description="Largest other request body.")
    chunk_chars: int = Field(default=800, ge=100, description="Target length of a chunk, in characters.")
    chunk_overlap: int = Field(default=120, ge=0, description="Characters that neighbouring chunks share.")
    worker_slots: int = Field(default=4, ge=1, le=64, description="Jobs that one worker runs at once.")
    job_lease: Seconds = Field(default=15.0, description="After which a silent worker's job goes to another.")
    parse_processes: int = Field(default=2, ge=1, le=64, description="Documents that one worker parses at once.")
    parse_cpu_seconds: int = Field(default=30, ge=1, description="CPU time for one document.")
    parse_memory_bytes: int = Field(default=2 * 2**30, ge=2**28, description="Address space of one parser.")
    parse_wall_seconds: Seconds = Field(default=90.0, description="Wall time for one document.")
    parse_max_pages: int = Field(default=10_000, ge=1, description="Pages of one document.")
    parse_max_chars: int = Field(default=50_000_000, ge=1000, description="Characters of one document.")

    @model_validator(mode="after")
    def _chunks_overlap_by_half_at_most(self) -> Self:
        if self.chunk_overlap > self.chunk_chars // 2:
            raise ValueError("RINGFENCE_CHUNK_OVERLAP is more than half of RINGFENCE_CHUNK_CHARS")
        return self


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        SetupError: a setting is wrong; the message names it as people write it, without its value.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # Pydantic checks them
    except ValidationError as error:
        wrong = "; ".join(_wrong(item) for item in error.errors())
        raise SetupError("bad_setting", f"These settings are wrong: {wrong}.") from None


def _wrong(item: ErrorDetails) -> str:
    """What is wrong with a setting, or with several together, without its value."""
    name = "".join(f"RINGFENCE_{part}: ".upper() for part in item["loc"])
    return name + item["msg"].removeprefix("Value error, ")
