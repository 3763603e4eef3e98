"""All of a search sees the tables as of one moment (decision 21)."""

SEARCHES = {"dense_way", "dense", "dense_index", "dense_shared", "search_dense", "lexical", "search_passages"}
_FUNCTIONS = """
select p.proname, p.provolatile = 's' as stable from pg_proc p
where p.pronamespace = 'public'::regnamespace and p.prolang = (select oid from pg_language where lanname = 'plpgsql')
  and has_function_privilege('ringfence_app', p.oid, 'execute') and p.prosrc like '%documents%'
"""


async def test_no_part_of_a_search_takes_a_snapshot_of_its_own(admin):
    """Whoever adds one, or makes one anew, has to say `stable`."""
    found = {row["proname"]: row["stable"] for row in await admin.fetch(_FUNCTIONS)}
    assert set(found) >= SEARCHES - {"dense_way"}
    assert [name for name, stable in found.items() if not stable] == []
