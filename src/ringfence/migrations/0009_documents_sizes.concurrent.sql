-- What a tenant keeps is counted from this index alone (documents/queries.py), at every upload.
create index concurrently if not exists documents_sizes on documents (user_id) include (size);
