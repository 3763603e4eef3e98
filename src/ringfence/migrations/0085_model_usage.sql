-- What the models took for a user, by day (UTC). `questions` of the requests wrote answers; the others helped to find
-- passages. `estimated`: requests whose tokens no server has counted. The cost is that of the day's prices, in
-- `currency`, which is empty where no price is known.
create table model_usage (
    user_id           uuid not null references users on delete cascade,
    day               date not null,
    model             text not null,
    currency          text not null,
    requests          bigint not null check (requests >= 0),
    questions         bigint not null check (questions >= 0),
    estimated         bigint not null check (estimated >= 0),
    prompt_tokens     bigint not null check (prompt_tokens >= 0),
    completion_tokens bigint not null check (completion_tokens >= 0),
    cost              numeric not null check (cost >= 0),
    primary key (user_id, day, model, currency)
);
alter table model_usage enable row level security;
alter table model_usage force row level security;
create policy tenant on model_usage to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update on model_usage to ringfence_app;

-- Which model a user wants, where a question does not say; no row: the installation's.
create table model_choices (
    user_id uuid primary key references users on delete cascade,
    model   text not null
);
alter table model_choices enable row level security;
alter table model_choices force row level security;
create policy tenant on model_choices to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on model_choices to ringfence_app;
