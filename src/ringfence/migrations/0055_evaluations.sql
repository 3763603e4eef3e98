-- Evaluations of a tenant's own questions: what was asked and expected, and how the search did. Hits are places in
-- documents, never words of them: nothing of a document is left here when it is deleted.
create table evaluations (
    user_id         uuid not null references users on delete cascade,
    evaluation_id   uuid not null,
    name            text not null check (length(name) between 1 and 100),
    state           text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed')),
    questions       jsonb not null,
    question_count  integer not null check (question_count > 0),
    questions_done  integer not null default 0,
    embedding_model text,
    modes           jsonb,
    worst           jsonb,
    reason_code     text,
    reason          text,
    created_at      timestamptz not null default now(),
    finished_at     timestamptz,
    primary key (user_id, evaluation_id)
);
create index evaluations_newest on evaluations (user_id, created_at desc, evaluation_id);
alter table evaluations enable row level security;
alter table evaluations force row level security;
create policy tenant on evaluations to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on evaluations to ringfence_app;
