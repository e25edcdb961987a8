//go:build !v2_0_7

// Pessimistic locks that several transactions share.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

func (t *txnTest) share(ctx context.Context, txn *transaction.KVTxn, waitMilliseconds int64, names ...string) error {
	var keys [][]byte
	for _, name := range names {
		keys = append(keys, t.key(name))
	}
	lockCtx := kv.NewLockCtx(got(t.txns.GetTimestamp(ctx)), waitMilliseconds, time.Now())
	lockCtx.InShareMode = true
	return txn.LockKeys(ctx, lockCtx, keys...)
}

// Begins, locks a key for itself, since the client makes no shared one the primary, and shares the other.
func (t *txnTest) sharer(ctx context.Context, own, shared string) *transaction.KVTxn {
	txn := t.begin(true)
	must(t.lock(ctx, txn, kv.LockAlwaysWait, own))
	must(t.share(ctx, txn, kv.LockNoWait, shared))
	return txn
}

func (t *txnTest) lockSoon(ctx context.Context, txn *transaction.KVTxn, name string) error {
	for {
		err := t.lock(ctx, txn, kv.LockAlwaysWait, name)
		if !tikverr.IsErrWriteConflict(err) {
			return err
		}
	}
}

func (t *txnTest) sharedLocks(ctx context.Context) {
	t.put(ctx, "shared/k", "1")
	one := t.sharer(ctx, "shared/one", "shared/k")
	two := t.sharer(ctx, "shared/two", "shared/k")
	must(t.share(ctx, two, kv.LockNoWait, "shared/k", "shared/more"))
	t.checkValue(ctx, "shared/k", "1")
	other := t.begin(true)
	err := t.lock(ctx, other, kv.LockNoWait, "shared/k")
	check(errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet), "a lock without a wait ends with %v", err)
	started := time.Now()
	err = t.lock(ctx, other, 300, "shared/k")
	check(errors.Is(err, tikverr.ErrLockWaitTimeout), "a wait of 300 ms ends with %v", err)
	check(time.Since(started) >= 250*time.Millisecond, "300 ms took %v", time.Since(started))
	late := t.begin(true)
	must(t.lock(ctx, late, kv.LockAlwaysWait, "shared/late"))
	err = t.share(ctx, late, kv.LockNoWait, "shared/k")
	check(errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet), "behind who waits for it, it is shared: %v", err)
	must(one.Set(t.key("shared/one"), []byte("1")))
	must(one.Commit(ctx))
	must(two.Rollback())
	must(t.lockSoon(ctx, other, "shared/k"))
	err = t.share(ctx, late, kv.LockNoWait, "shared/k")
	check(errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet), "what is locked is shared: %v", err)
	must(other.Set(t.key("shared/k"), []byte("2")))
	must(other.Commit(ctx))
	must(t.share(ctx, late, kv.LockAlwaysWait, "shared/k"))
	must(late.Commit(ctx))
	t.checkValue(ctx, "shared/k", "2")
	t.checkValue(ctx, "shared/one", "1")
}

// One that wants the key for itself gets it when the last has gone; then those that wait to share it.
func (t *txnTest) sharedWait(ctx context.Context) {
	one := t.sharer(ctx, "share-wait/one", "share-wait/k")
	two := t.sharer(ctx, "share-wait/two", "share-wait/k")
	alone, late := t.begin(true), t.begin(true)
	ended, joined := make(chan error, 1), make(chan error, 1)
	go func() { ended <- t.lockSoon(ctx, alone, "share-wait/k") }()
	time.Sleep(300 * time.Millisecond)
	must(t.lock(ctx, late, kv.LockAlwaysWait, "share-wait/late"))
	go func() { joined <- t.share(ctx, late, kv.LockAlwaysWait, "share-wait/k") }()
	must(one.Commit(ctx))
	select {
	case err := <-ended:
		check(false, "it did not wait for the second: %v", err)
	case err := <-joined:
		check(false, "it did not wait for who came before: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
	must(two.Commit(ctx))
	must(<-ended)
	must(alone.Set(t.key("share-wait/k"), []byte("alone")))
	must(alone.Commit(ctx))
	for err := <-joined; err != nil; err = t.share(ctx, late, kv.LockAlwaysWait, "share-wait/k") {
		check(tikverr.IsErrWriteConflict(err), "sharing it ends with %v", err)
	}
	must(late.Rollback())
	t.checkValue(ctx, "share-wait/k", "alone")
}

// A circle by way of the second of those that share a lock.
func (t *txnTest) sharedDeadlock(ctx context.Context) {
	alone := t.begin(true)
	must(t.lock(ctx, alone, kv.LockAlwaysWait, "share-circle/m"))
	one := t.sharer(ctx, "share-circle/one", "share-circle/k")
	two := t.sharer(ctx, "share-circle/two", "share-circle/k")
	ended := make(chan error, 1)
	go func() { ended <- t.lockSoon(ctx, alone, "share-circle/k") }()
	time.Sleep(300 * time.Millisecond)
	err := t.lock(ctx, two, kv.LockAlwaysWait, "share-circle/m")
	var deadlock *tikverr.ErrDeadlock
	check(errors.As(err, &deadlock), "the circle ends with %v", err)
	check(deadlock.LockTs == alone.StartTS(), "the deadlock names %d, not %d", deadlock.LockTs, alone.StartTS())
	must(two.Rollback())
	must(one.Rollback())
	must(<-ended)
	must(alone.Rollback())
}

// Who shares a lock dies: before its commit, in the middle of it, and behind its primary. Others get by.
func (t *txnTest) sharedLeft(ctx context.Context) {
	for stage := range 3 {
		name := fmt.Sprintf("share-left/%d", stage)
		dead := t.sharer(ctx, name+"/dead", name)
		living := t.sharer(ctx, name+"/living", name)
		must(dead.Set(t.key(name+"/dead"), []byte("committed")))
		committer := transaction.TxnProbe{KVTxn: dead}.GetCommitter()
		committer.CloseTTLManager()
		if stage > 0 {
			must(committer.InitKeysAndMutations())
			must(committer.PrewriteAllMutations(ctx))
			committer.CloseTTLManager() // which the prewrite has begun anew
		}
		if stage == 2 {
			committer.SetCommitTS(got(t.txns.GetTimestamp(ctx)))
			must(committer.CommitMutations(ctx))
		}
		other := t.begin(true)
		err := t.lock(ctx, other, 300, name)
		check(errors.Is(err, tikverr.ErrLockWaitTimeout), "beside the dead one lives another: %v", err)
		must(living.Commit(ctx))
		must(t.lockSoon(ctx, other, name))
		must(other.Set(t.key(name), []byte("other")))
		must(other.Commit(ctx))
		t.checkValue(ctx, name, "other")
		t.checkValue(ctx, name+"/dead", []string{"", "", "committed"}[stage])
	}
}

// Those that are left behind end with the collection of garbage.
func (t *txnTest) sharedGC(ctx context.Context) {
	for i := range 3 {
		txn := t.sharer(ctx, fmt.Sprintf("share-gc/%d", i), "share-gc/k")
		transaction.TxnProbe{KVTxn: txn}.GetCommitter().CloseTTLManager()
	}
	got(t.txns.GC(ctx, got(t.txns.GetTimestamp(ctx))))
	txn := t.begin(true)
	must(t.lock(ctx, txn, kv.LockNoWait, "share-gc/k"))
	must(txn.Rollback())
}

func (t *txnTest) listShared() {
	if t.space == "v2" { // the client leaves the keyspace in the keys of those that share a lock
		return
	}
	t.run("shared locks", t.sharedLocks)
	t.run("shared locks, who waits", t.sharedWait)
	t.run("shared locks, deadlock", t.sharedDeadlock)
	t.run("shared locks, a client is gone", t.sharedLeft)
}

func (t *txnTest) listSharedGC() {
	if t.space != "v2" {
		t.run("shared locks, garbage collection", t.sharedGC)
	}
}
