"""Reads an output folder with DuckDB and checks what its promises say, without any code of the project."""

import sys

import duckdb

root = sys.argv[1]


def rows(sql):
    return duckdb.sql(sql.format(root=root)).fetchall()


def dataset(name):
    return f"read_parquet('{root}/{name}/*/*.parquet', hive_partitioning = true)"


blocks, transactions = dataset("blocks"), dataset("transactions")
total, distinct = rows(f"select count(*), count(distinct signature) from {transactions}")[0]
assert total == distinct > 0, f"{total} transactions, {distinct} signatures"

wrong = rows(
    f"""
    select slot, executed_transaction_count, count(signature)
    from {blocks} b left join {transactions} t using (slot)
    group by all having executed_transaction_count <> count(signature)
    """
)
assert not wrong, f"counts differ: {wrong[:5]}"

broken = rows(
    f"""
    select child.slot from {blocks} child join {blocks} parent on child.parent_slot = parent.slot
    where child.parent_blockhash <> parent.blockhash
    """
)
assert not broken, f"broken links: {broken[:5]}"

slots = rows(
    f"""
    select count(*), max(slot) - min(slot) + 1
    from (select slot from {blocks} b union all select slot from {dataset("skipped_slots")} s)
    """
)[0]
assert slots[0] == slots[1], f"{slots[0]} slots accounted for, {slots[1]} covered"

epoch, first = rows(f"select epoch, min(slot) from {blocks} group by epoch order by epoch limit 1")[0]
assert int(epoch) == first // 432_000, f"slot {first} in the folder of epoch {epoch}"
print(f"duckdb: {total} transactions, each once; {slots[0]} slots, each accounted for; every parent link holds")
