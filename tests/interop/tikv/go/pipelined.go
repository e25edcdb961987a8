//go:build !v2_0_7

// Transactions that flush what they have written before they commit, and so may be larger than memory.
package main

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/pingcap/failpoint"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"github.com/tikv/client-go/v2/util"
)

func (t *txnTest) beginPipelined() *transaction.KVTxn {
	return got(t.txns.Begin(tikv.WithDefaultPipelinedTxn()))
}

func flush(txn *transaction.KVTxn) {
	got(txn.GetMemBuffer().Flush(true))
	must(txn.GetMemBuffer().FlushWait())
}

func (t *txnTest) pipelined(ctx context.Context) {
	p := t.fillTxn(ctx, "pipe", 600)
	txn := t.beginPipelined()
	for i, key := range p.keys { // three generations over the same range; some keys in all of them
		p.values[i] = bytes.Repeat([]byte{byte('a' + i%26)}, 1+i)
		must(txn.Set(key, p.values[i]))
		if i%200 == 199 {
			flush(txn)
		}
	}
	for i := 0; i < 600; i += 3 {
		p.values[i] = []byte("again")
		must(txn.Set(p.keys[i], p.values[i]))
	}
	flush(txn)
	for i := 599; i >= 0; i -= 5 {
		must(txn.Delete(p.keys[i]))
	}
	flush(txn)
	check(string(found(txn.Get(ctx, p.keys[0]))) == "again", "what was flushed is read as %q", found(txn.Get(ctx, p.keys[0])))
	check(bytes.Equal(found(txn.Get(ctx, p.keys[500])), p.values[500]), "a long value that was flushed differs")
	check(found(txn.Get(ctx, p.keys[599])) == nil, "what was deleted and flushed is read")
	read := got(txn.BatchGet(ctx, append(slices.Clone(p.keys), t.key("pipe/missing"))))
	check(len(read) == 480, "batch get of what was flushed gives %d", len(read))
	check(t.get(ctx, "pipe/00001") == "value 1", "another one reads it before the commit")
	must(txn.Set(p.keys[1], []byte("last"))) // what is flushed by the commit itself
	p.values[1] = []byte("last")
	must(txn.Commit(ctx))
	var left pairs
	for i := range p.keys {
		if (599-i)%5 != 0 {
			left.keys, left.values = append(left.keys, p.keys[i]), append(left.values, p.values[i])
		}
	}
	from, to := t.bounds("pipe")
	check(collect(t.now(ctx).Iter(from, to)).equal(left), "scan after the commit differs")
}

func (t *txnTest) pipelinedRollback(ctx context.Context) {
	p := t.fillTxn(ctx, "pipe-back", 100)
	txn := t.beginPipelined()
	for _, key := range p.keys {
		must(txn.Set(key, []byte("never")))
	}
	flush(txn)
	must(txn.Delete(p.keys[7]))
	flush(txn)
	must(txn.Rollback())
	from, to := t.bounds("pipe-back")
	check(collect(t.now(ctx).Iter(from, to)).equal(p), "scan after the rollback differs")
}

func (t *txnTest) pipelinedConflicts(ctx context.Context) {
	t.put(ctx, "pipe-conflict/a", "1", "pipe-conflict/there", "1")
	txn := t.beginPipelined()
	t.put(ctx, "pipe-conflict/a", "2")
	must(txn.Set(t.key("pipe-conflict/a"), []byte("3")))
	got(txn.GetMemBuffer().Flush(true))
	err := txn.GetMemBuffer().FlushWait()
	check(tikverr.IsErrWriteConflict(err), "a flush over a newer commit ends with %v", err)
	must(txn.Rollback())
	insert := func(name string, before func(txn *transaction.KVTxn)) error {
		txn := t.beginPipelined()
		before(txn)
		must(txn.GetMemBuffer().SetWithFlags(t.key(name), []byte("new"), kv.SetPresumeKeyNotExists))
		err := txn.Commit(ctx)
		if err != nil {
			_ = txn.Rollback()
		}
		return err
	}
	err = insert("pipe-conflict/there", func(*transaction.KVTxn) {})
	check(tikverr.IsErrKeyExist(err), "an insert of what is there ends with %v", err)
	err = insert("pipe-conflict/own", func(txn *transaction.KVTxn) {
		must(txn.Set(t.key("pipe-conflict/own"), []byte("flushed")))
		flush(txn)
	})
	check(tikverr.IsErrKeyExist(err), "an insert of what was flushed ends with %v", err)
	must(insert("pipe-conflict/there", func(txn *transaction.KVTxn) {
		must(txn.Delete(t.key("pipe-conflict/there")))
		flush(txn)
	}))
	t.checkValue(ctx, "pipe-conflict/a", "2")
	t.checkValue(ctx, "pipe-conflict/there", "new")
	t.checkValue(ctx, "pipe-conflict/own", "")
}

// Longer than its locks live; readers push the timestamp of its commit in the meantime, as the heartbeats do.
func (t *txnTest) pipelinedLong(ctx context.Context) {
	t.put(ctx, "pipe-long/a", "old", "pipe-long/b", "old")
	txn := t.beginPipelined()
	for _, name := range []string{"pipe-long/a", "pipe-long/b"} {
		must(txn.Set(t.key(name), []byte("new")))
		flush(txn)
	}
	for started := time.Now(); time.Since(started) < 5*time.Second; time.Sleep(500 * time.Millisecond) {
		t.checkValue(ctx, "pipe-long/b", "old")
	}
	before := t.now(ctx)
	must(txn.Commit(ctx))
	check(string(found(before.Get(ctx, t.key("pipe-long/a")))) == "old", "a snapshot from before reads it")
	t.checkValue(ctx, "pipe-long/a", "new")
	t.checkValue(ctx, "pipe-long/b", "new")
}

func (t *txnTest) listPipelined() {
	if t.space == "v2" { // the client does not add the keyspace to what it flushes
		return
	}
	t.run("pipelined, commit", t.pipelined)
	t.run("pipelined, rollback", t.pipelinedRollback)
	t.run("pipelined, conflicts and duplicates", t.pipelinedConflicts)
	t.run("pipelined, longer than its locks live", t.pipelinedLong)
}

// Ten keys in two generations, and for the second stage the primary key committed.
func (t *txnTest) leaveFlushed(ctx context.Context, commitPrimary bool, names []string) {
	txn := t.beginPipelined()
	for i, name := range names {
		must(txn.Set(t.key(name), []byte("flushed")))
		if i == len(names)/2 {
			flush(txn)
		}
	}
	for _, name := range names {
		must(txn.Set(t.key(name), []byte("locked")))
	}
	flush(txn)
	if commitPrimary { // and nothing else, by a fail point of its own
		util.EnableFailpoints()
		must(failpoint.Enable("tikvclient/pipelinedSkipResolveLock", "return"))
		must(txn.Commit(ctx))
	}
}
