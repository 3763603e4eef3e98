-- An upload promises a job that erases its file, and withdraws it in the transaction in which the document's row comes.
-- A tenant may remove no other job, nor one that a worker has had.
grant delete on jobs to ringfence_app;
create policy promised on jobs as restrictive for delete to ringfence_app
    using (kind = 'store' and state = 'ready' and attempts = 0);
