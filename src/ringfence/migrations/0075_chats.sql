-- Conversations; one that nothing was asked in has no title, unless it was given one. leaf_id: the last message of the branch that is shown, unless one asks for another. No foreign key:
-- messages refer to their chat, and none of them goes without it.
create table chats (
    user_id    uuid not null references users on delete cascade,
    chat_id    uuid not null,
    title      text check (length(title) between 1 and 200),
    leaf_id    uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (user_id, chat_id)
);
create index chats_newest on chats (user_id, updated_at desc, chat_id desc);
alter table chats enable row level security;
alter table chats force row level security;
create policy tenant on chats to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on chats to ringfence_app;
