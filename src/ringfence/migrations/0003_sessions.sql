-- Sessions: one for each sign-in, with the refresh tokens that carry it on. And the keys that sign access tokens.

-- Belongs to nobody: private keys of the installation, sealed with a key that derives from its secret.
create table signing_keys (
    key_id     text primary key,
    public_key bytea not null check (octet_length(public_key) = 32),
    sealed     bytea not null,
    created_at timestamptz not null default now(),
    retired_at timestamptz
);
grant select, insert, update, delete on signing_keys to ringfence_system;

alter table users add column disabled_at timestamptz;

create table sessions (
    user_id    uuid not null references users on delete cascade,
    session_id uuid not null,
    address    text not null,
    agent      text not null,
    created_at timestamptz not null default now(),
    used_at    timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (user_id, session_id)
);
alter table sessions enable row level security;
alter table sessions force row level security;
create policy tenant on sessions to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on sessions to ringfence_system using (true) with check (true);
grant select, delete on sessions to ringfence_app;
grant select, insert, update, delete on sessions to ringfence_system;

-- Every token that a session ever had: one that was used is known again when somebody shows it once more.
create table refresh_tokens (
    user_id    uuid not null,
    session_id uuid not null,
    digest     bytea not null check (octet_length(digest) = 32),
    used_at    timestamptz,
    primary key (user_id, session_id, digest),
    foreign key (user_id, session_id) references sessions on delete cascade
);
alter table refresh_tokens enable row level security;
alter table refresh_tokens force row level security;
create policy tenant on refresh_tokens to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on refresh_tokens to ringfence_system using (true) with check (true);
grant select, insert, update, delete on refresh_tokens to ringfence_system;
