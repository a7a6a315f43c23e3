"""router: tells the switch where a call goes, from a local copy of all live routes.

Owns: the view (LMDB, rebuilt from Kafka at will), the journal of its workers, the calls' records.
Reads: `binding.routes.v1`, `binding.keys.v1`, `binding.denials.v1` (blacklists); the records
process reads `router.calls.v1`.
Writes: `router.calls.v1` (decisions, call events), `router.records.v1` (one CDR per call),
`router.views.v1` (every second, how far a router's view is).
Promises: no other service, store or broker is on the path of a call; a decision is in the journal
before it is answered, and what is in the journal reaches Kafka; an ended or expired binding does
not connect; a stale view refuses (VIEW_STALE) instead of guessing.
Read in this order: domain, dialplan, handlers, ports; view, denials, store; journal, shipper;
callfold, records. docs/design/routing.md has the picture and the crash windows.
"""
