-- What was said in a chat: a tree. A question follows an answer, or nothing; an answer follows its question. What was
-- edited or answered anew is a sibling. Citations say where words stand, and don't repeat them.
-- beat_at: while an answer is written, its process says so each second; one that has been silent for long is no more.
-- stop, followed_at: what other processes tell that one.
create table messages (
    user_id     uuid not null,
    chat_id     uuid not null,
    message_id  uuid not null,
    parent_id   uuid,
    role        text not null check (role in ('user', 'assistant')),
    text        text not null,
    state       text not null check (state in ('writing', 'done', 'refused', 'failed', 'interrupted', 'stopped')),
    error_code  text,
    model       text,
    citations   jsonb not null default '[]',
    rating      text check (rating in ('up', 'down')),
    comment     text,
    stop        boolean not null default false,
    beat_at     timestamptz not null default now(),
    followed_at timestamptz,
    created_at  timestamptz not null default now(),
    ended_at    timestamptz,
    primary key (user_id, chat_id, message_id),
    foreign key (user_id, chat_id) references chats on delete cascade,
    foreign key (user_id, chat_id, parent_id) references messages on delete cascade
);
create index messages_children on messages (user_id, chat_id, parent_id);
alter table messages enable row level security;
alter table messages force row level security;
create policy tenant on messages to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on messages to ringfence_app;
