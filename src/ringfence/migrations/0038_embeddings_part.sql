-- In which part of the table of vectors a row will be, once that is divided: 0, what small tenants share; 1, what a
-- large tenant has of its own. Whoever inserts need not know: rows begin in 0, and maintenance moves them.
alter table embeddings
    add column part smallint not null default 0,
    add constraint embeddings_part check (part = 0) not valid;
