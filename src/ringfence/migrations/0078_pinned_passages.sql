-- The words of documents that answers in chats rest on. They hang on the document's row: whoever deletes it, deletes
-- them in the same statement.
-- Both at once, in this order, before anything else. Nobody uses `traces` yet.
lock table documents, traces in share row exclusive mode;

create table pinned_passages (
    user_id     uuid not null,
    chat_id     uuid not null,
    message_id  uuid not null,
    n           integer not null,
    document_id uuid not null,
    document    text not null,
    context     text not null,
    text        text not null,
    quote       text not null,
    spans       integer[] not null,
    primary key (user_id, chat_id, message_id, n),
    foreign key (user_id, chat_id, message_id) references traces on delete cascade,
    foreign key (user_id, document_id) references documents on delete cascade
);
create index pinned_passages_documents on pinned_passages (user_id, document_id);
alter table pinned_passages enable row level security;
alter table pinned_passages force row level security;
create policy tenant on pinned_passages to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, delete on pinned_passages to ringfence_app;
