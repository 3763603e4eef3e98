-- Nothing is said of an account that is gone: its events have a pseudonym by then, and one under its own id would stay.

-- The row is locked, so that this waits for a deletion under way.
create function audit_events_guard() returns trigger language plpgsql as $$
begin
    if new.user_id = '00000000-0000-0000-0000-000000000000' then
        return new;
    end if;
    perform from users where user_id = new.user_id for key share;
    if found then
        return new;
    end if;
    return null;
end
$$;
-- Not for the app's role: what it adds, it adds beside a change to a row of the account, which the deletion waits for
-- before it puts the pseudonym. Nor for the owner, who restores a backup: that brings the pseudonyms.
create trigger audit_events_guard before insert on audit_events for each row
    when (current_user = 'ringfence_system') execute function audit_events_guard();

-- Events of nobody (audit.NOBODY) go after three months. Of an account's nothing can: this policy comes on top of the
-- others, whatever they allow.
create policy nobodys on audit_events as restrictive for delete to ringfence_system
    using (user_id = '00000000-0000-0000-0000-000000000000' and created_at < now() - interval '90 days');
grant delete on audit_events to ringfence_system;
