-- The headings above a chunk. Older chunks have none until their document is ingested anew.
alter table chunks add column context text not null default '';
