"""allocator: which 700 number is free, and who may bind it next.

Owns: pools, blocks, and the state of every number in them (free, leased, bound, cooling, locked).
Reads: `binding.routes.v1`, which alone says what is bound and what cools.
Writes: its cell in Redis, and through its outbox `allocator.numbers.v1` and `allocator.state.v1`.
Promises: a number is leased to one taker at a time (shared: to at most 200 pairs, none of whose
parties is on it or cools on it); lease epochs only ever grow; a lease that ran out cools before
anyone gets the number; pools, blocks and locks that were answered are in Kafka. It never decides
whether a binding stands: binding does, and allocator folds what it is told.
Read in this order: domain, pool, handlers, ports, store, subscriber.
"""
