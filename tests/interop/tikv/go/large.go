// Answers of hundreds of MiB: a scan of many large values brings as much as its limit says.
package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tikv/client-go/v2/rawkv"
)

const largeCount = 300 // of 1 MiB: more than a batch of a transaction's scan, which has 256

func (t *test) largePairs(name string) (p pairs) {
	for i := range largeCount {
		p.keys = append(p.keys, t.key(fmt.Sprintf("%s/%05d", name, i)))
		p.values = append(p.values, bytes.Repeat([]byte{byte(i)}, mib))
	}
	return p
}

func (t *test) largeScans(ctx context.Context) {
	p := t.largePairs("large")
	for i := range p.keys {
		must(t.client.Put(ctx, p.keys[i], p.values[i]))
	}
	from, to := t.bounds("large")
	check(t.scan(ctx, from, to, rawkv.MaxRawKVScanLimit).equal(p), "the scan differs")
	check(t.reverseScan(ctx, from, to, largeCount).equal(p.reversed()), "the scan backward differs")
	check(pairs{p.keys, got(t.client.BatchGet(ctx, p.keys))}.equal(p), "the batch differs")
	must(t.client.DeleteRange(ctx, from, to))
}

func (t *txnTest) largeScans(ctx context.Context) {
	const each = 50 // pairs of a transaction
	p := t.largePairs("large-scan")
	for first := 0; first < largeCount; first += each {
		txn := t.begin(false)
		for i := first; i < first+each; i++ {
			must(txn.Set(p.keys[i], p.values[i]))
		}
		must(txn.Commit(ctx))
	}
	from, to := t.bounds("large-scan")
	snapshot := t.now(ctx)
	check(collect(snapshot.Iter(from, to)).equal(p), "the scan differs")
	check(down(snapshot, from, to).equal(p.reversed()), "the scan backward differs")
	found := got(snapshot.BatchGet(ctx, p.keys))
	check(len(found) == largeCount, "the batch has %d", len(found))
	for i, key := range p.keys {
		check(bytes.Equal(bytesOf(found[string(key)]), p.values[i]), "%s differs", key)
	}
	got(t.txns.DeleteRange(ctx, from, to, 1))
}
