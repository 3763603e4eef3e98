-- API keys: what programs show instead of a session's token. The secret itself is never stored.

create table api_keys (
    user_id    uuid not null references users on delete cascade,
    key_id     uuid not null,
    name       text not null check (length(name) between 1 and 100),
    prefix     text not null,
    digest     bytea not null check (octet_length(digest) = 32),
    scopes     text[] not null check (cardinality(scopes) > 0 and scopes <@ array['read', 'write', 'ask']),
    expires_at timestamptz,
    used_at    timestamptz,
    created_at timestamptz not null default now(),
    primary key (user_id, key_id)
);
alter table api_keys enable row level security;
alter table api_keys force row level security;
create policy tenant on api_keys to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on api_keys to ringfence_system using (true) with check (true);
grant select, delete on api_keys to ringfence_app;
grant select, insert, update, delete on api_keys to ringfence_system;
