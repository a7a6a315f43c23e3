// Logcheck opens an axbridge audit log with libraries that axbridge did not write.
//
//	logcheck -vkey VKEY [-policy FILE] FOLDER-OR-URL
//	logcheck -vkey VKEY -proof FILE -entry FILE
//
// With -policy it also asks whether enough witnesses cosigned `checkpoint.witnessed`; the second
// form checks an offline proof (C2SP tlog-proof) of one entry, without the log.
//
// It opens the checkpoint with sumdb/note and transparency-dev/formats, recomputes every tile and
// the root from the entry bundles with a transparency-dev/merkle compact range, and makes and
// checks inclusion and consistency proofs through sumdb/tlog's tile reader.
// Exit code: 0 the log is sound, 1 it is not, 2 usage.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8
	width  = 1 << height
)

// fetch reads a file of the log; a missing one is fs.ErrNotExist.
type fetch func(path string) ([]byte, error)

func main() {
	vkey := flag.String("vkey", "", "the log's public key in signed-note form")
	policy := flag.String("policy", "", "a file with the witness policy")
	proofFile := flag.String("proof", "", "a file with an offline proof")
	entryFile := flag.String("entry", "", "a file with the entry's octets")
	flag.Parse()
	if *vkey == "" || flag.NArg() != 1 && *proofFile == "" {
		flag.Usage()
		os.Exit(2)
	}
	var cp *log.Checkpoint
	var err error
	if *proofFile != "" {
		cp, err = checkProof(*vkey, *proofFile, *entryFile)
	} else {
		cp, err = check(source(flag.Arg(0)), *vkey)
	}
	if err == nil && *policy != "" {
		cp, err = checkWitnessed(source(flag.Arg(0)), *vkey, *policy)
	}
	if err != nil {
		fmt.Println("NO:", err)
		os.Exit(1)
	}
	fmt.Printf("YES: %s %d %x\n", cp.Origin, cp.Size, cp.Hash)
}

func source(where string) fetch {
	if !strings.HasPrefix(where, "http://") && !strings.HasPrefix(where, "https://") {
		return func(path string) ([]byte, error) {
			return os.ReadFile(filepath.Join(where, filepath.FromSlash(path)))
		}
	}
	client := &http.Client{Timeout: 30 * time.Second}
	return func(path string) ([]byte, error) {
		answer, err := client.Get(strings.TrimSuffix(where, "/") + "/" + path)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		switch answer.StatusCode {
		case http.StatusOK:
			return io.ReadAll(answer.Body)
		case http.StatusNotFound:
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
}

func check(get fetch, vkey string) (*log.Checkpoint, error) {
	signed, err := get("checkpoint")
	if err != nil {
		return nil, err
	}
	cp, err := open(signed, vkey)
	if err != nil {
		return nil, err
	}
	if err := recompute(get, cp); err != nil {
		return nil, err
	}
	if cp.Size > 0 {
		err = prove(get, cp)
	}
	return cp, err
}

// recompute hashes all entries and compares every hash tile that the tree needs, and the root.
func recompute(get fetch, cp *log.Checkpoint) error {
	hashes := map[int][]byte{} // level -> hashes of the tile in the making
	index := map[int]uint64{}  // level -> its number
	emit := func(level int, hash []byte) error {
		hashes[level] = append(hashes[level], hash...)
		if len(hashes[level]) < width*tlog.HashSize {
			return nil
		}
		err := compare(get, level, index[level], hashes[level])
		hashes[level], index[level] = nil, index[level]+1
		return err
	}
	var failed error
	visit := func(id compact.NodeID, hash []byte) {
		if id.Level > 0 && id.Level%height == 0 && failed == nil {
			failed = emit(int(id.Level/height), hash)
		}
	}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	tree := factory.NewEmptyRange(0)
	for first := uint64(0); first < cp.Size; first += width {
		entries, err := bundle(get, cp.Size, first/width)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			leaf := rfc6962.DefaultHasher.HashLeaf(entry)
			if err := emit(0, leaf); err != nil {
				return err
			}
			if err := tree.Append(leaf, visit); err != nil {
				return err
			}
			if failed != nil {
				return failed
			}
		}
	}
	for level, open := range hashes {
		if len(open) > 0 {
			if err := compare(get, level, index[level], open); err != nil {
				return err
			}
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return err
	}
	if cp.Size == 0 {
		root = rfc6962.DefaultHasher.EmptyRoot()
	}
	if !bytes.Equal(root, cp.Hash) {
		return fmt.Errorf("root is %x, signed is %x", root, cp.Hash)
	}
	return nil
}

func compare(get fetch, level int, index uint64, want []byte) error {
	tile := tlog.Tile{H: height, L: level, N: int64(index), W: len(want) / tlog.HashSize}
	found, err := get(path(tile))
	if err != nil {
		return err
	}
	if !bytes.Equal(found, want) {
		return fmt.Errorf("%s is not what its leaves hash to", path(tile))
	}
	return nil
}

// path is the C2SP path of a tile: sumdb's own has the height as one more element.
func path(tile tlog.Tile) string {
	return "tile/" + strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
}

func bundle(get fetch, size, index uint64) ([][]byte, error) {
	count := min(size-index*width, width)
	// Level -1 is sumdb's spelling of data tiles, which C2SP calls entries.
	tile := tlog.Tile{H: height, L: -1, N: int64(index), W: int(count)}
	name := strings.Replace(path(tile), "tile/data/", "tile/entries/", 1)
	data, err := get(name)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) > 0 {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("%s is cut short", name)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		entries, data = append(entries, data[2:end]), data[end:]
	}
	if uint64(len(entries)) != count {
		return nil, fmt.Errorf("%s has %d entries, not %d", name, len(entries), count)
	}
	return entries, nil
}

// tiles lets sumdb/tlog read the log. It authenticates each tile against the signed root itself.
type tiles struct{ get fetch }

func (t tiles) Height() int                     { return height }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range want {
		data, err := t.get(path(tile))
		if errors.Is(err, fs.ErrNotExist) && tile.W < width {
			// A log may drop a partial tile once the full one exists.
			full := tile
			full.W = width
			if data, err = t.get(path(full)); err == nil && len(data) >= tile.W*tlog.HashSize {
				data = data[:tile.W*tlog.HashSize]
			}
		}
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// prove makes proofs for a spread of leaves and older sizes, and has both libraries check them.
func prove(get fetch, cp *log.Checkpoint) error {
	size := int64(cp.Size)
	root := tlog.Hash(cp.Hash)
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles{get})
	for _, index := range []int64{0, 1, 254, 255, 256, 257, size / 3, size / 2, size - 2, size - 1} {
		if index < 0 || index >= size {
			continue
		}
		entries, err := bundle(get, cp.Size, uint64(index)/width)
		if err != nil {
			return err
		}
		leaf := tlog.RecordHash(entries[index%width])
		path, err := tlog.ProveRecord(size, index, reader)
		if err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		if err := tlog.CheckRecord(path, size, root, index, leaf); err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		err = proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), cp.Size, leaf[:], list(path), cp.Hash)
		if err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		old := index + 1
		oldRoot, err := tlog.TreeHash(old, reader)
		if err != nil {
			return fmt.Errorf("size %d: %w", old, err)
		}
		steps, err := tlog.ProveTree(size, old, reader)
		if err != nil {
			return fmt.Errorf("size %d: %w", old, err)
		}
		if err := tlog.CheckTree(steps, size, root, old, oldRoot); err != nil {
			return fmt.Errorf("size %d: %w", old, err)
		}
		err = proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), cp.Size, list(steps), oldRoot[:], cp.Hash)
		if err != nil {
			return fmt.Errorf("size %d: %w", old, err)
		}
	}
	return nil
}

func list(hashes []tlog.Hash) [][]byte {
	var all [][]byte
	for i := range hashes {
		all = append(all, hashes[i][:])
	}
	return all
}
