package main

import (
	"fmt"
	"os"

	"github.com/transparency-dev/formats/log"
	tlogproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// checkWitnessed opens `checkpoint.witnessed` and asks whether the policy in the file is satisfied.
func checkWitnessed(get fetch, vkey, policyFile string) (*log.Checkpoint, error) {
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return nil, err
	}
	policy, err := witness.ParsePolicy(text)
	if err != nil {
		return nil, err
	}
	signed, err := get("checkpoint.witnessed")
	if err != nil {
		return nil, err
	}
	if !policy.Satisfied(signed) {
		return nil, fmt.Errorf("the policy is not satisfied")
	}
	return open(signed, vkey)
}

// checkProof checks an offline proof of the entry in a file.
func checkProof(vkey, proofFile, entryFile string) (*log.Checkpoint, error) {
	data, err := os.ReadFile(proofFile)
	if err != nil {
		return nil, err
	}
	entry, err := os.ReadFile(entryFile)
	if err != nil {
		return nil, err
	}
	var offline tlogproof.TLogProof
	if err := offline.Unmarshal(data); err != nil {
		return nil, err
	}
	cp, err := open(offline.Checkpoint, vkey)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(offline.Hashes))
	for i := range offline.Hashes {
		hashes[i] = offline.Hashes[i][:]
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(entry)
	return cp, proof.VerifyInclusion(rfc6962.DefaultHasher, offline.Index, cp.Size, leaf, hashes, cp.Hash)
}

func open(signed []byte, vkey string) (*log.Checkpoint, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	cp, _, _, err := log.ParseCheckpoint(signed, verifier.Name(), verifier)
	return cp, err
}
