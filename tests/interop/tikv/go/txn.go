// Transactions of the published Go client: README.md has the commands.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"github.com/tikv/client-go/v2/txnkv/txnsnapshot"
)

const lockMilliseconds = 2000 // of those that a transaction leaves behind

type txnTest struct {
	*test
	txns *txnkv.Client
}

func connectTxn(pd, space string) (*txnkv.Client, error) {
	if space == "v2" {
		return txnkv.NewClient([]string{pd}, txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace("DEFAULT"))
	}
	return txnkv.NewClient([]string{pd})
}

func (t *txnTest) begin(pessimistic bool) *transaction.KVTxn {
	txn := got(t.txns.Begin())
	txn.SetPessimistic(pessimistic)
	return txn
}

// What a read gives: bytes, or in newer versions of the client a struct that has them.
func bytesOf(read any) []byte {
	if value, ok := read.([]byte); ok {
		return value
	}
	return reflect.ValueOf(read).FieldByName("Value").Bytes()
}

// Nil when there is no such key.
func found[T any](read T, err error) []byte {
	if tikverr.IsErrNotFound(err) {
		return nil
	}
	must(err)
	return bytesOf(read)
}

// Writes name=value pairs in one transaction; an empty value removes.
func (t *txnTest) put(ctx context.Context, namesAndValues ...string) {
	txn := t.begin(false)
	for i := 0; i < len(namesAndValues); i += 2 {
		set(txn, t.key(namesAndValues[i]), []byte(namesAndValues[i+1]))
	}
	must(txn.Commit(ctx))
}

func set(txn *transaction.KVTxn, key, value []byte) {
	if len(value) == 0 {
		must(txn.Delete(key))
	} else {
		must(txn.Set(key, value))
	}
}

func (t *txnTest) now(ctx context.Context) *txnsnapshot.KVSnapshot {
	return t.txns.GetSnapshot(got(t.txns.GetTimestamp(ctx)))
}

func (t *txnTest) get(ctx context.Context, name string) string {
	return string(found(t.now(ctx).Get(ctx, t.key(name))))
}

func (t *txnTest) checkValue(ctx context.Context, name, value string) {
	there := t.get(ctx, name)
	check(there == value, "%s is %q, not %q", name, there, value)
}

func (t *txnTest) lock(ctx context.Context, txn *transaction.KVTxn, waitMilliseconds int64, names ...string) error {
	var keys [][]byte
	for _, name := range names {
		keys = append(keys, t.key(name))
	}
	lockCtx := kv.NewLockCtx(got(t.txns.GetTimestamp(ctx)), waitMilliseconds, time.Now())
	return txn.LockKeys(ctx, lockCtx, keys...)
}

func (t *txnTest) fillTxn(ctx context.Context, name string, count int) (p pairs) {
	txn := t.begin(false)
	for i := range count {
		p.keys = append(p.keys, t.key(fmt.Sprintf("%s/%05d", name, i)))
		p.values = append(p.values, []byte(fmt.Sprintf("value %d", i)))
		must(txn.Set(p.keys[i], p.values[i]))
	}
	must(txn.Commit(ctx))
	return p
}

type iterator interface {
	Valid() bool
	Key() []byte
	Value() []byte
	Next() error
	Close()
}

func collect(it iterator, err error) (p pairs) {
	must(err)
	defer it.Close()
	for it.Valid() {
		p.keys = append(p.keys, slices.Clone(it.Key()))
		p.values = append(p.values, slices.Clone(it.Value()))
		must(it.Next())
	}
	return p
}

// Reverse iterators have no lower bound in older versions of the client.
func collectDown(it iterator, err error, from []byte) (p pairs) {
	must(err)
	defer it.Close()
	for it.Valid() && bytes.Compare(it.Key(), from) >= 0 {
		p.keys = append(p.keys, slices.Clone(it.Key()))
		p.values = append(p.values, slices.Clone(it.Value()))
		must(it.Next())
	}
	return p
}

// What every client does.

func (t *txnTest) ownWrites(ctx context.Context) {
	before := t.now(ctx)
	txn := t.begin(false)
	must(txn.Set(t.key("own/a"), []byte("1")))
	check(string(found(txn.Get(ctx, t.key("own/a")))) == "1", "a transaction does not read its own writes")
	check(t.get(ctx, "own/a") == "", "another one reads them before the commit")
	must(txn.Set(t.key("own/b"), []byte("2")))
	must(txn.Commit(ctx))
	t.checkValue(ctx, "own/a", "1")
	check(found(before.Get(ctx, t.key("own/a"))) == nil, "a snapshot from before reads them")
	t.put(ctx, "own/a", "", "own/b", "3")
	t.checkValue(ctx, "own/a", "")
	t.checkValue(ctx, "own/b", "3")
}

func (t *txnTest) rollback(ctx context.Context) {
	t.put(ctx, "rollback", "before")
	for _, pessimistic := range []bool{false, true} {
		txn := t.begin(pessimistic)
		if pessimistic {
			must(t.lock(ctx, txn, kv.LockNoWait, "rollback"))
		}
		must(txn.Set(t.key("rollback"), []byte("never")))
		must(txn.Rollback())
	}
	t.checkValue(ctx, "rollback", "before")
}

func (t *txnTest) conflict(ctx context.Context) {
	t.put(ctx, "conflict", "0")
	one, two := t.begin(false), t.begin(false)
	must(one.Set(t.key("conflict"), []byte("1")))
	must(two.Set(t.key("conflict"), []byte("2")))
	must(one.Commit(ctx))
	err := two.Commit(ctx)
	check(tikverr.IsErrWriteConflict(err), "the second commit ends with %v", err)
	t.checkValue(ctx, "conflict", "1")
}

func (t *txnTest) large(ctx context.Context) {
	p := t.fillTxn(ctx, "large", 5000)
	found := got(t.now(ctx).BatchGet(ctx, append(slices.Clone(p.keys[:1500]), t.key("large/missing"))))
	check(len(found) == 1500, "batch get gives %d", len(found))
	for i, key := range p.keys[:1500] {
		check(bytes.Equal(bytesOf(found[string(key)]), p.values[i]), "key %d differs", i)
	}
	from, to := t.bounds("large")
	all := collect(t.now(ctx).Iter(from, to))
	check(all.equal(p), "scan gives %d pairs, and they differ", len(all.keys))
}

func (t *txnTest) txnScans(ctx context.Context) {
	p := t.fillTxn(ctx, "scan", 1200)
	from, to := t.bounds("scan")
	txn := t.begin(false)
	check(collect(txn.Iter(from, to)).equal(p), "scan differs")
	check(downTxn(txn, from, to).equal(p.reversed()), "scan backward differs")
	check(collect(txn.Iter(p.keys[10], p.keys[20])).equal(p.part(10, 20)), "scan of a part differs")
	must(txn.Delete(p.keys[0]))
	must(txn.Set(p.keys[1], []byte("mine")))
	p.values[1] = []byte("mine")
	check(collect(txn.Iter(from, to)).equal(p.part(1, 1200)), "scan over own writes differs")
	check(downTxn(txn, from, to).equal(p.part(1, 1200).reversed()),
		"scan backward over own writes differs")
	must(txn.Rollback())
	keys := t.now(ctx)
	keys.SetKeyOnly(true)
	check(len(collect(keys.Iter(from, to)).keys) == 1200, "scan of keys differs")
}

// Prewrites and goes no further; the locks end soon.
func (t *txnTest) leaveLocks(ctx context.Context, commitPrimary bool, names ...string) {
	txn := t.begin(false)
	for _, name := range names {
		must(txn.Set(t.key(name), []byte("locked")))
	}
	committer := got(transaction.TxnProbe{KVTxn: txn}.NewCommitter(1))
	committer.SetLockTTL(lockMilliseconds)
	must(committer.PrewriteAllMutations(ctx))
	if commitPrimary {
		committer.SetCommitTS(got(t.txns.GetTimestamp(ctx)))
		must(committer.CommitMutations(ctx))
	}
}

func (t *txnTest) locksInTheWay(ctx context.Context) {
	for _, committed := range []bool{false, true} {
		name := fmt.Sprintf("way-%v", committed)
		p := t.fillTxn(ctx, name, 300)
		var names []string
		for i := 40; i < 280; i += 30 {
			names = append(names, fmt.Sprintf("%s/%05d", name, i))
			if committed {
				p.values[i] = []byte("locked")
			}
		}
		from, to := t.bounds(name)
		t.leaveLocks(ctx, committed, names...)
		check(down(t.now(ctx), from, to).equal(p.reversed()),
			"scan backward differs, committed: %v", committed)
		t.leaveLocks(ctx, committed, names...)
		check(collect(t.now(ctx).Iter(from, to)).equal(p), "scan differs, committed: %v", committed)
		t.leaveLocks(ctx, committed, names...)
		found := got(t.now(ctx).BatchGet(ctx, p.keys))
		check(bytes.Equal(bytesOf(found[string(p.keys[40])]), p.values[40]), "batch get differs")
		t.leaveLocks(ctx, committed, names...)
		t.checkValue(ctx, names[3], string(p.values[130]))
	}
}

func (t *txnTest) duplicates(ctx context.Context) {
	t.put(ctx, "insert/there", "1")
	insert := func(name string) error {
		txn := t.begin(false)
		must(txn.GetMemBuffer().SetWithFlags(t.key(name), []byte("new"), kv.SetPresumeKeyNotExists))
		must(txn.Set(t.key("insert/other-"+name[len("insert/"):]), []byte("1")))
		return txn.Commit(ctx)
	}
	err := insert("insert/there")
	check(tikverr.IsErrKeyExist(err), "an insert of what is there ends with %v", err)
	t.checkValue(ctx, "insert/there", "1")
	t.checkValue(ctx, "insert/other-there", "")
	must(insert("insert/new"))
	t.checkValue(ctx, "insert/new", "new")
	t.put(ctx, "insert/new", "")
	must(insert("insert/new"))
}

// Pessimistic transactions.

func (t *txnTest) pessimistic(ctx context.Context) {
	t.put(ctx, "locked/a", "1")
	txn := t.begin(true)
	lockCtx := kv.NewLockCtx(got(t.txns.GetTimestamp(ctx)), kv.LockAlwaysWait, time.Now())
	lockCtx.InitReturnValues(2)
	must(txn.LockKeys(ctx, lockCtx, t.key("locked/a"), t.key("locked/missing")))
	values := lockCtx.Values
	check(string(values[string(t.key("locked/a"))].Value) == "1", "the lock gives %v", values)
	check(!values[string(t.key("locked/missing"))].Exists, "the lock gives %v", values)
	other := t.begin(true)
	err := t.lock(ctx, other, kv.LockNoWait, "locked/a")
	check(errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet), "a lock without a wait ends with %v", err)
	started := time.Now()
	err = t.lock(ctx, other, 300, "locked/a")
	check(errors.Is(err, tikverr.ErrLockWaitTimeout), "a wait of 300 ms ends with %v", err)
	check(time.Since(started) >= 250*time.Millisecond, "300 ms took %v", time.Since(started))
	check(t.get(ctx, "locked/a") == "1", "a lock is in a reader's way")
	must(txn.Set(t.key("locked/a"), []byte("2")))
	must(txn.Commit(ctx))
	must(t.lock(ctx, other, kv.LockNoWait, "locked/a"))
	must(other.Rollback())
	t.checkValue(ctx, "locked/a", "2")
}

func (t *txnTest) lockWait(ctx context.Context) {
	holder := t.begin(true)
	must(t.lock(ctx, holder, kv.LockAlwaysWait, "wait"))
	must(holder.Set(t.key("wait"), []byte("holder")))
	got := make(chan error)
	waiter := t.begin(true)
	go func() {
		var err error
		for range 10 { // a conflict is to be tried again with a newer timestamp
			if err = t.lock(ctx, waiter, kv.LockAlwaysWait, "wait"); !tikverr.IsErrWriteConflict(err) {
				break
			}
		}
		got <- err
	}()
	select {
	case err := <-got:
		check(false, "the lock did not wait: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
	must(holder.Commit(ctx))
	must(<-got)
	value := found(waiter.GetSnapshot().Get(ctx, t.key("wait")))
	check(value == nil, "the waiter's snapshot has %q", value)
	must(waiter.Set(t.key("wait"), []byte("waiter")))
	must(waiter.Commit(ctx))
	t.checkValue(ctx, "wait", "waiter")
}

func (t *txnTest) deadlock(ctx context.Context) {
	one, two := t.begin(true), t.begin(true)
	must(t.lock(ctx, one, kv.LockAlwaysWait, "deadlock/a"))
	must(t.lock(ctx, two, kv.LockAlwaysWait, "deadlock/b"))
	ended := make(chan error)
	go func() { ended <- t.lock(ctx, one, kv.LockAlwaysWait, "deadlock/b") }()
	time.Sleep(200 * time.Millisecond)
	err := t.lock(ctx, two, kv.LockAlwaysWait, "deadlock/a")
	var deadlock *tikverr.ErrDeadlock
	check(errors.As(err, &deadlock), "the circle ends with %v", err)
	check(deadlock.LockTs == one.StartTS(), "the deadlock names %d, not %d", deadlock.LockTs, one.StartTS())
	must(two.Rollback())
	err = <-ended
	if tikverr.IsErrWriteConflict(err) {
		err = t.lock(ctx, one, kv.LockAlwaysWait, "deadlock/b")
	}
	must(err)
	must(one.Set(t.key("deadlock/b"), []byte("1")))
	must(one.Commit(ctx))
	t.checkValue(ctx, "deadlock/b", "1")
}

// A call that has locked keys of one region closes a circle in the next: what the other one waits for goes when the
// call is undone, and the client says so. It knows that by a hash of the key, which is that of the prefixed key in V2.
func (t *txnTest) deadlockInOneCall(ctx context.Context) {
	got(t.txns.SplitRegions(ctx, [][]byte{t.key("circle/b")}, false, nil))
	one, two, three := t.begin(true), t.begin(true), t.begin(true)
	must(t.lock(ctx, one, kv.LockAlwaysWait, "circle/c"))
	must(t.lock(ctx, three, kv.LockAlwaysWait, "circle/b"))
	ended, waited := make(chan error), make(chan error)
	go func() { ended <- t.lock(ctx, two, kv.LockAlwaysWait, "circle/a", "circle/b", "circle/c") }()
	time.Sleep(200 * time.Millisecond)
	go func() { waited <- t.lock(ctx, one, kv.LockAlwaysWait, "circle/a") }()
	time.Sleep(200 * time.Millisecond)
	must(three.Rollback())
	err := <-ended
	var deadlock *tikverr.ErrDeadlock
	check(errors.As(err, &deadlock), "the circle ends with %v", err)
	check(deadlock.IsRetryable == (t.space != "v2"), "the call may be tried again: %v", deadlock.IsRetryable)
	must(two.Rollback())
	if err = <-waited; !tikverr.IsErrWriteConflict(err) {
		must(err)
	}
	must(one.Rollback())
}

// Beyond the life of its lock, which the client renews.
func (t *txnTest) heartBeat(ctx context.Context) {
	txn := t.begin(true)
	must(t.lock(ctx, txn, kv.LockAlwaysWait, "heart/a"))
	time.Sleep(2500 * time.Millisecond) // the locks of this program last 2 s
	other := t.begin(true)
	err := t.lock(ctx, other, kv.LockNoWait, "heart/a")
	check(errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet), "the lock was lost: %v", err)
	must(other.Rollback())
	must(txn.Set(t.key("heart/a"), []byte("alive")))
	must(txn.Set(t.key("heart/b"), []byte("alive")))
	must(txn.Commit(ctx))
	t.checkValue(ctx, "heart/b", "alive")
}

// Commits that choose their timestamp themselves.

func (t *txnTest) asyncCommit(ctx context.Context) {
	for _, pessimistic := range []bool{false, true} {
		txn := t.begin(pessimistic)
		txn.SetEnableAsyncCommit(true)
		for i := range 20 {
			name := fmt.Sprintf("async/%v/%d", pessimistic, i)
			if pessimistic {
				must(t.lock(ctx, txn, kv.LockAlwaysWait, name))
			}
			must(txn.Set(t.key(name), []byte("1")))
		}
		must(txn.Commit(ctx))
		probe := transaction.TxnProbe{KVTxn: txn}
		check(probe.GetCommitter().IsAsyncCommit(), "async commit was refused")
		check(commitTS(txn) > txn.StartTS(), "the commit timestamp is %d", commitTS(txn))
		t.checkValue(ctx, fmt.Sprintf("async/%v/19", pessimistic), "1")
	}
}

func (t *txnTest) onePhase(ctx context.Context) {
	for _, pessimistic := range []bool{false, true} {
		txn := t.begin(pessimistic)
		txn.SetEnable1PC(true)
		txn.SetEnableAsyncCommit(true)
		for i := range 5 {
			name := fmt.Sprintf("one-phase/%v/%d", pessimistic, i)
			if pessimistic {
				must(t.lock(ctx, txn, kv.LockAlwaysWait, name))
			}
			must(txn.Set(t.key(name), []byte("1")))
		}
		must(txn.Commit(ctx))
		probe := transaction.TxnProbe{KVTxn: txn}
		check(probe.GetCommitter().IsOnePC() && probe.GetCommitter().GetOnePCCommitTS() != 0,
			"one phase was refused")
		t.checkValue(ctx, fmt.Sprintf("one-phase/%v/4", pessimistic), "1")
	}
}

// A client that dies with async commit's locks written has committed.
func (t *txnTest) asyncLeft(ctx context.Context) {
	txn := t.begin(false)
	txn.SetEnableAsyncCommit(true)
	for _, name := range []string{"left/a", "left/b", "left/c"} {
		must(txn.Set(t.key(name), []byte("committed")))
	}
	committer := got(transaction.TxnProbe{KVTxn: txn}.NewCommitter(1))
	committer.SetUseAsyncCommit()
	committer.SetLockTTL(lockMilliseconds)
	must(committer.PrewriteAllMutations(ctx))
	t.checkValue(ctx, "left/c", "committed")
	t.checkValue(ctx, "left/a", "committed")
}

// Many at once.

func (t *txnTest) tryAgain(ctx context.Context, body func(txn *transaction.KVTxn) error, pessimistic bool) error {
	for {
		txn, err := t.txns.Begin()
		if err != nil {
			return err
		}
		txn.SetPessimistic(pessimistic)
		if err = body(txn); err == nil {
			err = txn.Commit(ctx)
		} else {
			_ = txn.Rollback()
		}
		var retryable *tikverr.ErrRetryable
		if !tikverr.IsErrWriteConflict(err) && !errors.As(err, &retryable) {
			return err
		}
		time.Sleep(time.Duration(txn.StartTS()%20) * time.Millisecond)
	}
}

func (t *txnTest) counters(ctx context.Context) {
	const workers, each = 8, 15
	for _, pessimistic := range []bool{false, true} {
		key := t.key(fmt.Sprintf("counter/%v", pessimistic))
		errs := make(chan error, workers)
		add := func(txn *transaction.KVTxn) error {
			if pessimistic {
				ts, err := t.txns.GetTimestamp(ctx)
				if err != nil {
					return err
				}
				lockCtx := kv.NewLockCtx(ts, kv.LockAlwaysWait, time.Now())
				lockCtx.InitReturnValues(1)
				if err := txn.LockKeys(ctx, lockCtx, key); err != nil {
					return err
				}
				return txn.Set(key, append(lockCtx.Values[string(key)].Value, 'x'))
			}
			read, err := txn.Get(ctx, key)
			var value []byte
			if err == nil {
				value = bytesOf(read)
			} else if !tikverr.IsErrNotFound(err) {
				return err
			}
			return txn.Set(key, append(slices.Clone(value), 'x'))
		}
		for range workers {
			go func() {
				var err error
				for i := 0; i < each && err == nil; i++ {
					err = t.tryAgain(ctx, add, pessimistic)
				}
				errs <- err
			}()
		}
		for range workers {
			must(<-errs)
		}
		value := found(t.now(ctx).Get(ctx, key))
		check(len(value) == workers*each, "%d increments gave %d", workers*each, len(value))
	}
}

// The rest.

func (t *txnTest) ranges(ctx context.Context) {
	p := t.fillTxn(ctx, "delete", 500)
	from, to := t.bounds("delete")
	got(t.txns.DeleteRange(ctx, p.keys[100], p.keys[200], 1))
	left := collect(t.now(ctx).Iter(from, to))
	check(len(left.keys) == 400, "%d of 500 are left after 100 were deleted", len(left.keys))
	if t.space == "v1" { // this version of the client does not add the keyspace
		must(t.txns.UnsafeDestroyRange(ctx, from, to))
		check(len(collect(t.now(ctx).Iter(from, to)).keys) == 0, "keys are left")
	}
}

func (t *txnTest) splitTxn(ctx context.Context) {
	p := t.fillTxn(ctx, "split", 600)
	from, to := t.bounds("split")
	regions := got(t.txns.SplitRegions(ctx, [][]byte{p.keys[200], p.keys[400]}, false, nil))
	check(len(regions) >= 2, "%d regions", len(regions))
	check(collect(t.now(ctx).Iter(from, to)).equal(p), "scan over regions differs")
	check(down(t.now(ctx), from, to).equal(p.reversed()),
		"scan backward over regions differs")
	txn := t.begin(false)
	for i := range p.keys {
		p.values[i] = []byte("again")
		must(txn.Set(p.keys[i], p.values[i]))
	}
	must(txn.Commit(ctx))
	check(collect(t.now(ctx).Iter(from, to)).equal(p), "a commit over regions differs")
}

// Versions that no reader can want any more; the runner looks at the server's count of them.
func (t *txnTest) gc(ctx context.Context) {
	for i := range 20 {
		t.put(ctx, "gc", fmt.Sprint(i))
	}
	t.leaveLocks(ctx, true, "gc/a", "gc/b")
	safePoint := got(t.txns.GC(ctx, got(t.txns.GetTimestamp(ctx))))
	check(safePoint > 0, "the safe point is %d", safePoint)
	t.checkValue(ctx, "gc", "19")
	t.checkValue(ctx, "gc/b", "locked")
}

// Another client has collected garbage: nothing is read as of before, and what was committed since is. The
// store does not refuse such a read; this client does when it hears of PD's transaction safe point.
func (t *txnTest) tooOld(ctx context.Context, before string) {
	old := t.txns.GetSnapshot(got(strconv.ParseUint(before, 10, 64)))
	for {
		_, err := old.Get(ctx, t.key("gc"))
		if err != nil && strings.Contains(err.Error(), "GC") {
			break
		}
		check(ctx.Err() == nil, "it is still read: %v", err)
		time.Sleep(50 * time.Millisecond)
		old = t.txns.GetSnapshot(got(strconv.ParseUint(before, 10, 64))) // without what that one has read
	}
	t.checkValue(ctx, "gc", "new")
}

func (t *txnTest) listTxn() {
	var wait sync.WaitGroup
	wait.Add(1)
	go func() { // it takes long
		defer wait.Done()
		t.run("heartbeats", t.heartBeat)
	}()
	t.run("own writes and snapshots", t.ownWrites)
	t.run("rollback", t.rollback)
	t.run("write conflict", t.conflict)
	t.run("a large transaction", t.large)
	t.run("scans", t.txnScans)
	t.run("answers of hundreds of MiB", t.largeScans)
	t.run("uncommitted locks in the way", t.locksInTheWay)
	t.run("insert of duplicates", t.duplicates)
	t.run("pessimistic locks", t.pessimistic)
	t.run("lock wait", t.lockWait)
	t.run("deadlock", t.deadlock)
	t.run("deadlock in one call", t.deadlockInOneCall)
	t.run("async commit", t.asyncCommit)
	t.run("one-phase commit", t.onePhase)
	t.run("async commit, the client is gone", t.asyncLeft)
	t.run("counters of many", t.counters)
	t.run("ranges", t.ranges)
	t.run("regions", t.splitTxn)
	t.listPipelined()
	t.listShared()
	wait.Wait()
	t.run("garbage collection", t.gc)
	t.listSharedGC()
}

// What one client writes for all others to read.

func (t *txnTest) writeTxnShared(ctx context.Context) {
	p := t.shared()
	txn := t.begin(false)
	for i, key := range p.keys {
		must(txn.Set(key, p.values[i]))
	}
	must(txn.Commit(ctx))
}

func (t *txnTest) readTxnShared(ctx context.Context) {
	p := t.shared()
	from, to := []byte(t.prefix), t.key("~")
	check(collect(t.now(ctx).Iter(from, to)).equal(p), "scan differs")
	check(down(t.now(ctx), from, to).equal(p.reversed()), "scan backward differs")
	found := got(t.now(ctx).BatchGet(ctx, p.keys))
	for i, key := range p.keys {
		check(bytes.Equal(bytesOf(found[string(key)]), p.values[i]), "batch get differs at %d", i)
	}
}

// Leaves a transaction of ten keys at a stage of its commit, and waits to be killed.
func (t *txnTest) crash(ctx context.Context, stage string) {
	txn := t.begin(stage == "locked")
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("%d", i))
		must(txn.Set(t.key(names[i]), []byte("new")))
	}
	switch stage {
	case "flushed", "flush-committing":
		t.leaveFlushed(ctx, stage == "flush-committing", names)
	case "locked":
		must(t.lock(ctx, txn, kv.LockAlwaysWait, names...))
	case "prewritten":
		t.leaveLocks(ctx, false, names...)
	case "committing":
		t.leaveLocks(ctx, true, names...)
	default:
		check(false, "there is no stage %q", stage)
	}
	fmt.Println("stage reached")
	select {}
}

// After a crash: all ten keys are as `value` says, whoever has to resolve what is in the way.
func (t *txnTest) after(ctx context.Context, value string) {
	from, to := []byte(t.prefix), t.key("~")
	p := collect(t.now(ctx).Iter(from, to))
	check(len(p.keys) == 10, "%d keys", len(p.keys))
	for i, there := range p.values {
		check(string(there) == value, "key %d is %q, not %q", i, there, value)
	}
	txn := t.begin(true)
	err := t.lock(ctx, txn, kv.LockAlwaysWait, "0", "9")
	if tikverr.IsErrWriteConflict(err) {
		err = t.lock(ctx, txn, kv.LockAlwaysWait, "0", "9")
	}
	must(err)
	must(txn.Rollback())
}

func (t *txnTest) before(ctx context.Context) {
	txn := t.begin(false)
	for i := range 10 {
		must(txn.Set(t.key(fmt.Sprint(i)), []byte("old")))
	}
	must(txn.Commit(ctx))
}

// Commits a second of one or five keys, workers at once; 0 of them with one phase.
func (t *txnTest) measureTxn(keys, workers, seconds int) {
	ctx := context.Background()
	var count atomic.Int64
	started := time.Now()
	value := bytes.Repeat([]byte("v"), 100)
	t.inParallel(workers, func(worker int) error {
		for number := 0; time.Since(started) < time.Duration(seconds)*time.Second; number++ {
			txn, err := t.txns.Begin()
			if err != nil {
				return err
			}
			for i := range keys {
				key := t.key(fmt.Sprintf("%03d/%06d", worker, (number*keys+i)%2000))
				if err := txn.Set(key, value); err != nil {
					return err
				}
			}
			if err := txn.Commit(ctx); err != nil {
				return err
			}
			count.Add(1)
		}
		return nil
	})
	fmt.Printf("rate %.0f\n", float64(count.Load())/time.Since(started).Seconds())
}

func runTxn(command, pd, space, prefix, stage string, workers, seconds int) {
	client, err := connectTxn(pd, space)
	if err != nil {
		fmt.Printf("not ok - connect: %v\n", err)
		os.Exit(1)
	}
	transaction.ManagedLockTTL = lockMilliseconds
	t := &txnTest{&test{space: space, prefix: prefix}, client}
	switch command {
	case "txn-list":
		t.listTxn()
	case "txn-write":
		t.run(command, t.writeTxnShared)
	case "txn-read":
		t.run(command, t.readTxnShared)
	case "txn-before":
		t.run(command, t.before)
	case "txn-crash":
		t.run(command, func(context.Context) { t.crash(context.Background(), stage) })
	case "txn-after":
		t.run(command, func(ctx context.Context) { t.after(ctx, stage) })
	case "txn-too-old":
		t.run(command, func(ctx context.Context) { t.tooOld(ctx, stage) })
	case "txn-history-begin":
		t.run(command, t.historyBegin)
	case "txn-history":
		t.history(stage, seconds)
	case "txn-versions":
		t.run(command, t.versions)
	case "txn-one", "txn-five":
		keys := map[string]int{"txn-one": 1, "txn-five": 5}[command]
		t.run(command, func(context.Context) { t.measureTxn(keys, workers, seconds) })
	default:
		t.fail(command, "unknown command")
	}
	_ = client.Close()
	if t.failed {
		os.Exit(1)
	}
}
