-- What was asked and answered, kept however the answer ended. Citations say where words stand, and don't repeat them:
-- nothing of a document is left here when it is deleted.

create table answers (
    user_id    uuid not null references users on delete cascade,
    answer_id  uuid not null,
    question   text not null,
    state      text not null check (state in ('done', 'refused', 'failed', 'interrupted')),
    error_code text,
    text       text not null,
    model      text,
    citations  jsonb not null,
    created_at timestamptz not null default now(),
    primary key (user_id, answer_id)
);
create index answers_newest on answers (user_id, created_at desc, answer_id);
alter table answers enable row level security;
alter table answers force row level security;
create policy tenant on answers to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, delete on answers to ringfence_app;
