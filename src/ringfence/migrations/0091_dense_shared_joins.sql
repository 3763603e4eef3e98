-- `dense` may join by loops alone, and what it calls inherits that; `dense_shared` must join by hash (0063_dense_shared.sql).
-- With no join left, the planner took the one that it expected to be cheapest, and of a tenant of 10,000 vectors compared
-- each with each of its documents.
alter function dense_shared set enable_hashjoin = on;
alter function dense_shared set enable_bitmapscan = on;
alter function dense_shared set enable_sort = on;
