// Verifies a log with the Go project's own implementation of transparency logs,
// golang.org/x/mod/sumdb: the checkpoint's signature, every entry, every tile it needs, and that
// the log continues an earlier checkpoint.
//
//	xmod DIRECTORY VKEY EARLIER
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Directory reads tiles by the paths of C2SP tlog-tiles, which leave out the height.
type Directory string

func (d Directory) Height() int { return 8 }

func (d Directory) SaveTiles([]tlog.Tile, [][]byte) {}

func (d Directory) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(string(d), path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func open(file, vkey string) tlog.Tree {
	message, err := os.ReadFile(file)
	check(err)
	verifier, err := note.NewVerifier(vkey)
	check(err)
	signed, err := note.Open(message, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(signed.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(lines[2])
	check(err)
	return tlog.Tree{N: size, Hash: root}
}

func main() {
	directory, vkey, earlier := os.Args[1], os.Args[2], os.Args[3]
	tree := open(filepath.Join(directory, "checkpoint"), vkey)
	before := open(earlier, vkey)
	hashes := tlog.TileHashReader(tree, Directory(directory))

	proof, err := tlog.ProveTree(tree.N, before.N, hashes)
	check(err)
	check(tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash))

	bundle := tlog.Tile{H: 8, L: 0, W: 256}
	for first := int64(0); first < tree.N; first += 256 {
		bundle.N = first / 256
		if tree.N-first < 256 {
			bundle.W = int(tree.N - first)
		}
		path := strings.TrimPrefix(bundle.Path(), "tile/8/0/")
		data, err := os.ReadFile(filepath.Join(directory, "tile/entries", path))
		check(err)
		var indexes []int64
		for i := 0; i < bundle.W; i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, first+int64(i)))
		}
		leaves, err := hashes.ReadHashes(indexes)
		check(err)
		for i, leaf := range leaves {
			length := int(binary.BigEndian.Uint16(data))
			entry := data[2 : 2+length]
			data = data[2+length:]
			sequence := []byte(fmt.Sprintf("\"sequence\":%d,", first+int64(i)))
			if tlog.RecordHash(entry) != leaf || !bytes.Contains(entry, sequence) {
				check(fmt.Errorf("entry %d is not the one in the tree", first+int64(i)))
			}
		}
		if len(data) > 0 {
			check(fmt.Errorf("%s is too long", path))
		}
	}
	fmt.Println(tree.N, tree.Hash)
}
