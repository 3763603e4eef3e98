-- How an answer came about, without words of documents: prompt is what the model was sent, with places where those
-- stood; passages is where they stand, in which version of which document, and how well each fitted.
create table traces (
    user_id    uuid not null,
    chat_id    uuid not null,
    message_id uuid not null,
    query      text not null,
    as_asked   text,
    model      text,
    parameters jsonb not null,
    prompt     jsonb not null,
    passages   jsonb not null,
    created_at timestamptz not null default now(),
    primary key (user_id, chat_id, message_id),
    foreign key (user_id, chat_id, message_id) references messages on delete cascade
);
alter table traces enable row level security;
alter table traces force row level security;
create policy tenant on traces to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, delete on traces to ringfence_app;
