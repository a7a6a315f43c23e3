"""audit: the tamper-evident record of everything the other services did.

Owns: one transparency log (RFC 6962 tree, C2SP tiles and signed checkpoints) and what is derived
from it.
Reads: every event topic.
Writes: the log's folder; nobody else does (one sequencer, guarded by locks and compare-and-swap).
Promises: each distinct event id is one leaf; a leaf and the offset it came from are one step; a
published checkpoint is never contradicted; anyone can recheck the log without this service
(`python -m services.audit.verify FOLDER`).
Read in this order: merkle, tiles, checkpoint, ports, log, logfolder, verify.
"""
