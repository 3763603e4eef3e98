-- A tenant's documents that are not ready yet, the first in the queue first: few, and looked at once a second.
create index concurrently if not exists documents_in_work on documents (user_id, created_at)
    where state in ('queued', 'processing') and deleted_at is null;
