"""Settings that are wrong end the start with a sentence; those that take several values take them between commas."""

import pytest

from ringfence.errors import SetupError
from ringfence.setting_types import ChatModelEntry
from ringfence.settings import Settings, load_settings, refuse_mistyped, unknown


@pytest.fixture(autouse=True)
def no_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("written", ["10.0.0.5,172.16.0.0/12,::1", " 10.0.0.5 , 172.16.0.0/12 ,, ::1"])
def test_several_values_stand_between_commas(monkeypatch, written):
    monkeypatch.setenv("RINGFENCE_TRUSTED_PROXIES", written)
    assert load_settings().trusted_proxies == ("10.0.0.5", "172.16.0.0/12", "::1")
    monkeypatch.setenv("RINGFENCE_TRUSTED_PROXIES", "")
    assert load_settings().trusted_proxies == ()


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("TRUSTED_PROXIES", "*", "10.0.0.5"),
        ("TRUSTED_PROXIES", "proxy.example.org", "10.0.0.5"),
        ("TRUSTED_PROXIES", "10.0.0.5/8", "10.0.0.5"),
        ("CORS_ORIGINS", "*", "https://app.example.org"),
        ("CORS_ORIGINS", "app.example.org", "https://app.example.org"),
        ("CORS_ORIGINS", "https://app.example.org/", "https://app.example.org"),
        ("CORS_ORIGINS", "https://app.example.org,https://u@b.example.org", "https://app.example.org"),
        ("PUBLIC_URL", "rag.example.org", "https://rag.example.org"),
        ("PUBLIC_URL", "https://rag.example.org:port", "https://rag.example.org"),
        ("PUBLIC_URL", "https://rag.example.org/?a=b", "https://rag.example.org"),
        ("PUBLIC_URL", "ftp://rag.example.org", "https://rag.example.org"),
        ("SHUTDOWN_GRACE", "0", "greater than 0"),
        ("S3_PREFIX", "../others", "names of letters, digits"),
        ("S3_PREFIX", "a//b", "names of letters, digits"),
        ("S3_PREFIX", "/a", "names of letters, digits"),
    ],
)
def test_a_wrong_value_is_named_and_never_shown(monkeypatch, name, value, hint):
    monkeypatch.setenv(f"RINGFENCE_{name}", value)
    with pytest.raises(SetupError, match="bad_setting") as caught:
        load_settings()
    assert caught.value.message.startswith(f"These settings are wrong: RINGFENCE_{name}: ")
    assert hint in caught.value.message
    assert len(value) < 2 or value not in caught.value.message.replace(hint, "")


@pytest.mark.parametrize(
    "written", ["https://rag.example.org/ringfence/", "http://[::1]:8000", "http://localhost:8000/"]
)
def test_a_public_url_has_no_slash_at_its_end(monkeypatch, written):
    monkeypatch.setenv("RINGFENCE_PUBLIC_URL", written)
    assert load_settings().public_url == written.rstrip("/")


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("RINGFENCE_CHAT_PROVIDR", "RINGFENCE_CHAT_PROVIDER"),
        ("RINGFENCE_DATABASEURL", "RINGFENCE_DATABASE_URL"),
        ("RINGFENCE_CORS_ORIGIN", "RINGFENCE_CORS_ORIGINS"),
    ],
)
def test_a_mistyped_setting_is_refused(monkeypatch, mistyped, meant):
    monkeypatch.setenv(mistyped, "a value that nobody may see")
    with pytest.raises(SetupError, match="bad_setting") as caught:
        load_settings()
    assert caught.value.message == f"{mistyped} is no setting. Did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SECRET_KEY", "short", "it needs 32 characters or more"),
        ("OTLP_ENDPOINT", "foo", "it takes an address that begins with http:// or https://"),
        ("S3_ENDPOINT", "minio:9000", "it takes an address that begins with http:// or https://"),
        ("SHUTDOWN_GRACE", "10s", "it takes a number, without a unit"),
        ("PORT", "eighty", "it takes a whole number, without a unit"),
        ("OCR_LANGUAGES", "eng,deu", "it takes Tesseract's names of languages with + between them, like eng+deu"),
    ],
)
def test_what_is_wrong_is_said_in_an_operators_words(monkeypatch, name, value, sentence):
    monkeypatch.setenv(f"RINGFENCE_{name}", value)
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert caught.value.message == f"These settings are wrong: RINGFENCE_{name}: {sentence}."


def test_chat_models_are_declared_in_json(monkeypatch):
    declared = '[{"name": "big", "url": "https://m.example/v1", "api_key": "s3cret", "prompt_price": 0.15}]'
    monkeypatch.setenv("RINGFENCE_CHAT_MODELS", declared)
    settings = load_settings()
    [big] = settings.chat_models
    assert (big.provider, big.model, big.fall_back, str(big.prompt_price)) == ("openai", None, (), "0.15")
    assert big.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings) + settings.model_dump_json()


def test_chat_models_may_be_given_by_programs():
    big = ChatModelEntry(name="big")
    assert load_settings(chat_models=(big,)).chat_models == (big,)


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("s3cret", ": it takes a list in JSON"),
        ('{"name": "s3cret"}', ": Input should be a valid tuple"),
        ('[{"name": "a", "urll": "s3cret"}]', ".0.urll: Extra inputs are not permitted"),
        ('[{"name": "a", "url": "s3cret"}]', ".0.url: it takes an address that begins with http:// or https://"),
        ('[{"name": "a", "prompt_price": -5}]', ".0.prompt_price: Input should be greater than or equal to 0"),
        ('[{"name": "a", "context_tokens": "s3cret"}]', ".0.context_tokens: it takes a whole number, without a unit"),
    ],
)
def test_what_is_wrong_in_them_is_said_by_its_place(monkeypatch, written, wrong):
    monkeypatch.setenv("RINGFENCE_CHAT_MODELS", written)
    with pytest.raises(SetupError) as caught:
        load_settings()
    assert caught.value.message == f"These settings are wrong: RINGFENCE_CHAT_MODELS{wrong}."


def test_names_that_have_no_effect_are_known(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("RINGFENCE_DB_URL=x\nRINGFENCE_PORT=8001\n", encoding="utf-8")
    monkeypatch.setenv("RINGFENCE_MAX_UPLOAD", "x")
    assert {"RINGFENCE_DB_URL", "RINGFENCE_MAX_UPLOAD"} <= set(unknown())
    assert unknown(["RINGFENCE_TOKEN", "RINGFENCE_PORT", "RINGFENCE_WORKERS", "WORKERS"]) == ["RINGFENCE_WORKERS"]


def test_a_mistyped_setting_in_the_file_is_refused_too(tmp_path):
    (tmp_path / ".env").write_text("RINGFENCE_SMTP_HOTS=mail.example.org\n", encoding="utf-8")
    with pytest.raises(SetupError, match="RINGFENCE_SMTP_HOST"):
        load_settings()


def test_what_looks_like_no_setting_is_left_alone():
    refuse_mistyped(["RINGFENCE_EVALDATA", "RINGFENCE_TEST_DATABASE_URL", "CHAT_PROVIDR"])
    refuse_mistyped(f"RINGFENCE_{name.upper()}" for name in Settings.model_fields)


@pytest.mark.parametrize("written", ["ringfence/prod", "ringfence/prod/"])
def test_a_prefix_has_no_slash_at_its_end(monkeypatch, written):
    monkeypatch.setenv("RINGFENCE_S3_PREFIX", written)
    assert load_settings().s3_prefix == "ringfence/prod"


def test_a_bucket_takes_no_larger_documents(monkeypatch):
    monkeypatch.setenv("RINGFENCE_STORAGE", "s3")
    monkeypatch.setenv("RINGFENCE_UPLOAD_MAX_BYTES", str(5 * 2**30 + 1))
    with pytest.raises(SetupError, match="RINGFENCE_UPLOAD_MAX_BYTES is more than the 5 GiB that a bucket takes"):
        load_settings()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"CHUNK_TOKENS": "100", "CHUNK_OVERLAP_TOKENS": "51"},
            "RINGFENCE_CHUNK_OVERLAP_TOKENS is more than half of RINGFENCE_CHUNK_TOKENS",
        ),
        ({"PROMOTE_AT": "1000", "DEMOTE_AT": "1000"}, "RINGFENCE_DEMOTE_AT is not less than RINGFENCE_PROMOTE_AT"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(monkeypatch, values, sentence):
    for name, value in values.items():
        monkeypatch.setenv(f"RINGFENCE_{name}", value)
    with pytest.raises(SetupError, match=f"bad_setting.*{sentence}"):
        load_settings()
