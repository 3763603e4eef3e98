-- The audit log: what happened to each account. It only grows: no role may delete from it, and what it says of an event
-- (kind, detail, time) nobody may change.

-- No foreign key to users: the log outlives the account. What would name its owner does not: the trigger below blanks
-- addresses and agents, and accounts/audit_queries.py puts a pseudonym in the place of user_id.
-- event_id is random and no counter: owners see it, and would count what happens to others.
create table audit_events (
    user_id    uuid not null,
    event_id   uuid not null,
    kind       text not null check (kind ~ '^[a-z][a-z_]{1,39}$'),
    address    text not null,
    agent      text not null,
    detail     jsonb not null check (octet_length(detail::text) <= 1000),
    -- Not the transaction's time: of two events with one cause, the first is first.
    created_at timestamptz not null default clock_timestamp(),
    primary key (user_id, event_id)
);
create index audit_events_newest on audit_events (user_id, created_at desc, event_id desc);
alter table audit_events enable row level security;
alter table audit_events force row level security;
create policy tenant on audit_events to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on audit_events to ringfence_system using (true) with check (true);
-- Not created_at: nobody dates an event.
grant select, insert (user_id, event_id, kind, address, agent, detail) on audit_events to ringfence_app;
grant select, insert (user_id, event_id, kind, address, agent, detail), update (user_id, address, agent)
    on audit_events to ringfence_system;

-- However an account or a registration goes, no address stays behind.
create function audit_events_blank() returns trigger language plpgsql as $$
begin
    update audit_events set address = '', agent = '' where user_id = old.user_id;
    return null;
end
$$;
create trigger audit_events_blank after delete on users for each row execute function audit_events_blank();
