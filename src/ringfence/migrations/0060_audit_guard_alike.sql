-- An event of nobody costs the same look as an event of an account: what fails for an unknown address must not be
-- sooner done than for a known one.
create or replace function audit_events_guard() returns trigger language plpgsql as $$
begin
    perform from users where user_id = new.user_id for key share;
    if found or new.user_id = '00000000-0000-0000-0000-000000000000' then
        return new;
    end if;
    return null;
end
$$;
