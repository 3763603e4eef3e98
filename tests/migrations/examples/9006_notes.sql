create table notes (
    user_id     uuid not null,
    document_id uuid not null,
    note_id     uuid not null,
    text        text not null,
    primary key (user_id, note_id),
    foreign key (user_id, document_id) references documents on delete cascade
);
alter table notes enable row level security;
alter table notes force row level security;
create policy tenant on notes to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on notes to ringfence_app;
