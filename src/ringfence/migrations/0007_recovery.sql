-- Codes for more than registration: to choose a new password, and to move an account to another address.
-- email, email_key: where the code proves another address than the one of its user's row.

alter table one_time_codes
    -- The new constraint allows more than the old one.
    -- squawk-ignore ban-drop-constraint
    drop constraint one_time_codes_purpose_check,
    add constraint one_time_codes_purpose check (purpose in ('verify', 'reset', 'change_email')) not valid,
    add column email text,
    add column email_key text;
