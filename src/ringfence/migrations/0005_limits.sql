-- How often something was tried. Belongs to nobody: a bucket's name is a keyed digest that tells neither an account nor
-- an address.
create table limits (
    bucket  bytea primary key check (octet_length(bucket) = 32),
    full_at timestamptz not null
);
create index limits_full_at on limits (full_at);
grant select, insert, update, delete on limits to ringfence_system;
