"""Bindings: two parties tied to a middle number for a time.

Owns: bindings, route keys, each number's record of who is and was on it, consents and blacklists.
Reads: numbers by lease from allocator (gRPC). Trusts it for supply, never for safety: every limit
is checked again in the cell.
Writes: `binding.bindings.v1`, `…consents.v1`, `…blacklists.v1`, `…retention.v1` (events),
`binding.routes.v1`, `…denials.v1`, `…state.v1`, `…keys.v1` (compacted).
Promises: an answer means that Kafka has it; a request id has one effect; no answer, event key,
store key, log line or error holds a real number; an expired binding is released once, never early.
"""
