-- What a browser's cookie has to match, where a browser began the session: SHA-256 of the secret in it. Such a session has
-- no refresh tokens.
alter table sessions add column cookie_digest bytea;
