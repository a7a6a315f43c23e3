"""audit: the tamper-evident record of everything the other services did.

Owns: one transparency log (RFC 6962 tree, C2SP tiles and signed checkpoints) and what is derived
from it: an index to find leaves by.
Reads: every event topic (the sequencer); its own served folder (everything else).
Writes: the log's folder; nobody else does (one sequencer, guarded by locks and compare-and-swap).
Answers: queries and proofs (gRPC), which anyone can check without it.
Promises: each distinct event id is one leaf; a leaf and the offset it came from are one step; a
published checkpoint is never contradicted; anyone can recheck the log without this service
(`python -m services.audit.verify FOLDER`).

Processes: `sequencer`, the service (`__main__`, with the indexer as a thread), `tileserver` and
`gatherer`; in other hands `witness`; for auditors `verify` and `tail`, which need none of them.
Read in this order: domain, handlers, ports; for the log merkle, tiles, checkpoint, log, logfolder;
for what goes in entry, sequencing, sequencer; for what comes out extract, indexer, index, served,
tlogproof; for who follows remote, trail, tail; for witnesses cosignature, witnessing, policy.
"""
