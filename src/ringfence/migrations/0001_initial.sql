-- Accounts, documents, vectors and the queue. Table, policy and grants stand together; each statement runs as
-- ringfence_owner. The app's role sees the rows of the tenant named by app.user_id; the system role sees accounts
-- and the queue, and no content.

create table users (
    user_id       uuid primary key,
    email         text not null check (length(email) <= 254),
    email_key     text not null,
    password_hash text not null,
    verified_at   timestamptz,
    created_at    timestamptz not null default now()
);
-- Spans tenants on purpose: an address signs in to one account. Only the system role writes or reads it. Registrations
-- that await their code may share an address: whoever proves it first has it, and no other's password comes with it.
create unique index users_verified_email on users (email_key) where verified_at is not null;
create index users_email on users (email_key);
alter table users enable row level security;
alter table users force row level security;
create policy tenant on users to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on users to ringfence_system using (true) with check (true);
grant select (user_id, email, verified_at, created_at) on users to ringfence_app;
grant select, insert, update, delete on users to ringfence_system;

create table one_time_codes (
    user_id    uuid not null references users on delete cascade,
    purpose    text not null check (purpose in ('verify')),
    digest     bytea not null check (octet_length(digest) = 32),
    attempts   integer not null default 0 check (attempts between 0 and 5),
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (user_id, purpose)
);
alter table one_time_codes enable row level security;
alter table one_time_codes force row level security;
create policy tenant on one_time_codes to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on one_time_codes to ringfence_system using (true) with check (true);
grant select, insert, update, delete on one_time_codes to ringfence_system;

create table documents (
    user_id      uuid not null references users on delete cascade,
    document_id  uuid not null,
    name         text not null check (length(name) between 1 and 255),
    media_type   text not null,
    size         bigint not null check (size > 0),
    sha256       bytea not null check (octet_length(sha256) = 32),
    state        text not null default 'queued' check (state in ('queued', 'processing', 'ready', 'failed')),
    reason_code  text,
    reason       text,
    pages        integer,
    pages_done   integer not null default 0,
    chunks       integer not null default 0,
    ingest_token uuid,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    primary key (user_id, document_id),
    constraint documents_sha256 unique (user_id, sha256)
);
create index documents_newest on documents (user_id, created_at desc, document_id);
alter table documents enable row level security;
alter table documents force row level security;
create policy tenant on documents to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on documents to ringfence_app;

-- spans: page, start, end (characters of that page's text), three numbers for each page that the chunk touches.
create table chunks (
    user_id     uuid not null,
    document_id uuid not null,
    number      integer not null,
    spans       integer[] not null check (cardinality(spans) > 0 and cardinality(spans) % 3 = 0),
    text        text not null,
    primary key (user_id, document_id, number),
    foreign key (user_id, document_id) references documents on delete cascade
);
alter table chunks enable row level security;
alter table chunks force row level security;
create policy tenant on chunks to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on chunks to ringfence_app;

-- Names of models alone: no tenant's data.
create table embedding_models (
    model_id   smallint generated always as identity primary key,
    name       text not null unique,
    dimensions integer not null check (dimensions between 1 and 4000)
);
grant select on embedding_models to ringfence_app;
grant select, insert on embedding_models to ringfence_system;

-- Narrow and inline, so that an exact scan of one tenant reads vectors and nothing else.
create table embeddings (
    user_id     uuid not null,
    document_id uuid not null,
    number      integer not null,
    model_id    smallint not null references embedding_models,
    embedding   halfvec not null,
    primary key (user_id, document_id, number, model_id),
    foreign key (user_id, document_id) references documents on delete cascade
);
alter table embeddings alter column embedding set storage plain;
alter table embeddings enable row level security;
alter table embeddings force row level security;
create policy tenant on embeddings to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on embeddings to ringfence_app;

-- The queue. tag: start-time fair queueing, one lane a tenant (Goyal, Vin, Cheng 1996).
create table job_clock (
    one   boolean primary key default true check (one),
    value bigint not null default 0
);
insert into job_clock default values;
grant select on job_clock to ringfence_app;
grant select, update on job_clock to ringfence_system;

create table job_lanes (
    user_id uuid primary key references users on delete cascade,
    tag     bigint not null
);
alter table job_lanes enable row level security;
alter table job_lanes force row level security;
create policy tenant on job_lanes to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on job_lanes to ringfence_system using (true) with check (true);
grant select, insert, update on job_lanes to ringfence_app;
grant select, insert, update on job_lanes to ringfence_system;

create table jobs (
    user_id     uuid not null references users on delete cascade,
    job_id      bigint generated always as identity,
    kind        text not null,
    payload     jsonb not null,
    state       text not null default 'ready' check (state in ('ready', 'running', 'parked')),
    tag         bigint not null,
    attempts    integer not null default 0,
    crashes     integer not null default 0,
    run_after   timestamptz not null default now(),
    lease_until timestamptz,
    token       uuid,
    reason      text,
    created_at  timestamptz not null default now(),
    primary key (user_id, job_id)
);
create index jobs_ready on jobs (tag, job_id) where state = 'ready';
create index jobs_running on jobs (lease_until) where state = 'running';
alter table jobs enable row level security;
alter table jobs force row level security;
create policy tenant on jobs to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on jobs to ringfence_system using (true) with check (true);
grant select, insert on jobs to ringfence_app;
grant select, insert, update, delete on jobs to ringfence_system;

create function jobs_wake() returns trigger language plpgsql as $$
begin
    perform pg_notify('jobs', '');
    return null;
end
$$;
create trigger jobs_wake after insert on jobs for each statement execute function jobs_wake();
