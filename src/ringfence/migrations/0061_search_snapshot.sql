-- All of a search sees the tables as of one moment: the statement that calls it. What is volatile looks anew in each of
-- its statements, and one half of a search could find a document's former version and the other half the next one
-- (decision 21).
alter function dense_way stable;
alter function dense stable;
alter function dense_index stable;
alter function search_dense stable;
alter function lexical stable;
alter function search_passages stable;
