// Random transactions, told as lines of JSON: ../../history.py checks them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

const (
	accounts       = 12
	registers      = 6
	historyWorkers = 4
	callSeconds    = 15
)

// One line; begun before the commit is asked for, and again when its outcome is known.
type told struct {
	Start   uint64            `json:"start"`
	Commit  uint64            `json:"commit,omitempty"`
	Outcome string            `json:"outcome"`
	Reads   map[string]string `json:"reads,omitempty"`  // as of start
	Locked  map[string]string `json:"locked,omitempty"` // read under a lock that is kept
	Writes  map[string]string `json:"writes,omitempty"`
	Began   int64             `json:"began"` // wall clock, microseconds: before start was asked for
	Ended   int64             `json:"ended"` // when the line was written
}

type historian struct {
	*txnTest
	mutex sync.Mutex
}

func (h *historian) tell(line told, outcome string) {
	line.Outcome = outcome
	line.Ended = time.Now().UnixMicro()
	bytes, err := json.Marshal(line)
	must(err)
	h.mutex.Lock()
	defer h.mutex.Unlock()
	_, _ = os.Stdout.Write(append(bytes, '\n'))
}

func account(i int) string  { return fmt.Sprintf("account/%02d", i) }
func register(i int) string { return fmt.Sprintf("register/%d", i) }

func balance(value string) int {
	number, _ := strconv.Atoi(strings.SplitN(value, " ", 2)[0])
	return number
}

func (h *historian) read(ctx context.Context, txn *transaction.KVTxn, line *told, names ...string) error {
	for _, name := range names {
		value, err := txn.Get(ctx, h.key(name))
		if err != nil && !tikverr.IsErrNotFound(err) {
			return err
		}
		line.Reads[name] = ""
		if err == nil {
			line.Reads[name] = string(bytesOf(value))
		}
	}
	return nil
}

func (h *historian) readLocked(ctx context.Context, txn *transaction.KVTxn, line *told, names ...string) error {
	ts, err := h.txns.GetTimestamp(ctx)
	if err != nil {
		return err
	}
	var keys [][]byte
	for _, name := range names {
		keys = append(keys, h.key(name))
	}
	lockCtx := kv.NewLockCtx(ts, 3000, time.Now())
	lockCtx.InitReturnValues(len(keys))
	if err := txn.LockKeys(ctx, lockCtx, keys...); err != nil {
		return err
	}
	for i, name := range names {
		line.Locked[name] = string(lockCtx.Values[string(keys[i])].Value)
	}
	return nil
}

// Moves money, or writes a register after it has read some.
func (h *historian) body(ctx context.Context, txn *transaction.KVTxn, line *told, random *rand.Rand, id string) error {
	kind := random.Intn(10)
	if kind < 2 {
		var all []string
		for i := range accounts {
			all = append(all, account(i))
		}
		return h.read(ctx, txn, line, all...)
	}
	reads, from := h.read, line.Reads
	if txn.IsPessimistic() {
		reads, from = h.readLocked, line.Locked
	}
	if kind < 5 {
		first := random.Intn(registers)
		other := (first + 1 + random.Intn(registers-1)) % registers
		if err := reads(ctx, txn, line, register(first), register(other)); err != nil {
			return err
		}
		line.Writes[register(first)] = "0 " + id
		return txn.Set(h.key(register(first)), []byte("0 "+id))
	}
	one := random.Intn(accounts)
	two := (one + 1 + random.Intn(accounts-1)) % accounts
	if err := reads(ctx, txn, line, account(one), account(two)); err != nil {
		return err
	}
	amount := random.Intn(balance(from[account(one)]) + 1)
	line.Writes[account(one)] = fmt.Sprintf("%d %s", balance(from[account(one)])-amount, id)
	line.Writes[account(two)] = fmt.Sprintf("%d %s", balance(from[account(two)])+amount, id)
	for name, value := range line.Writes {
		if err := txn.Set(h.key(name), []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

// What did not happen for sure.
func isRefused(err error) bool {
	var deadlock *tikverr.ErrDeadlock
	var retryable *tikverr.ErrRetryable
	return tikverr.IsErrWriteConflict(err) || errors.As(err, &deadlock) || errors.As(err, &retryable)
}

func (h *historian) one(random *rand.Rand, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), callSeconds*time.Second)
	defer cancel()
	began := time.Now().UnixMicro()
	txn, err := h.txns.Begin()
	if err != nil {
		time.Sleep(50 * time.Millisecond)
		return
	}
	txn.SetPessimistic(random.Intn(2) == 0)
	txn.SetEnableAsyncCommit(random.Intn(2) == 0)
	txn.SetEnable1PC(random.Intn(3) == 0)
	line := told{Start: txn.StartTS(), Began: began, Reads: map[string]string{}, Locked: map[string]string{}, Writes: map[string]string{}}
	if err := h.body(ctx, txn, &line, random, id); err != nil {
		_ = txn.Rollback()
		return
	}
	if len(line.Writes) == 0 {
		h.tell(line, "read")
		_ = txn.Rollback()
		return
	}
	h.tell(line, "begun")
	err = txn.Commit(ctx)
	switch {
	case err == nil:
		h.tell(told{Start: line.Start, Commit: commitTS(txn)}, "done")
	case isRefused(err):
		h.tell(told{Start: line.Start}, "failed")
	default:
		h.tell(told{Start: line.Start}, "unknown")
	}
}

func (t *txnTest) history(seed string, seconds int) {
	h := &historian{txnTest: t}
	number, _ := strconv.ParseInt(seed, 10, 64)
	started := time.Now()
	var wait sync.WaitGroup
	for worker := range historyWorkers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			random := rand.New(rand.NewSource(number*1000 + int64(worker)))
			for i := 0; time.Since(started) < time.Duration(seconds)*time.Second; i++ {
				h.one(random, fmt.Sprintf("%s.%d.%d", seed, worker, i))
			}
		}()
	}
	wait.Wait()
}

// The state that histories begin with.
func (t *txnTest) historyBegin(ctx context.Context) {
	txn := t.begin(false)
	for i := range accounts {
		must(txn.Set(t.key(account(i)), []byte("100 begin")))
	}
	for i := range registers {
		must(txn.Set(t.key(register(i)), []byte("0 begin")))
	}
	must(txn.Commit(ctx))
}

// Other locks hold no version back: reads do not look at them, nor end them.
func isWritten(lock *kvrpcpb.MvccLock) bool {
	return lock != nil && (lock.Type == kvrpcpb.Op_Put || lock.Type == kvrpcpb.Op_Del)
}

// All versions of all keys, when whatever is still locked has been resolved.
func (t *txnTest) versions(ctx context.Context) {
	var names []string
	for i := range accounts {
		names = append(names, account(i))
	}
	for i := range registers {
		names = append(names, register(i))
	}
	for _, name := range names {
		t.get(ctx, name)
		bo := tikv.NewGcResolveLockMaxBackoffer(ctx)
		location := got(t.txns.GetRegionCache().LocateKey(bo, t.key(name)))
		request := tikvrpc.NewRequest(tikvrpc.CmdMvccGetByKey, &kvrpcpb.MvccGetByKeyRequest{Key: t.key(name)})
		answer := got(t.txns.SendReq(bo, request, location.Region, callSeconds*time.Second)).Resp.(*kvrpcpb.MvccGetByKeyResponse)
		// A read goes past the lock of what is committed already, which is resolved in the background, and of what may
		// still be alive: until its time is over.
		for isWritten(answer.GetInfo().GetLock()) {
			time.Sleep(50 * time.Millisecond)
			t.get(ctx, name)
			answer = got(t.txns.SendReq(bo, request, location.Region, callSeconds*time.Second)).Resp.(*kvrpcpb.MvccGetByKeyResponse)
		}
		for _, write := range answer.GetInfo().GetWrites() {
			if write.Type != kvrpcpb.Op_Put {
				continue
			}
			line, err := json.Marshal(map[string]any{"key": name, "start": write.StartTs, "commit": write.CommitTs,
				"value": string(write.ShortValue)})
			must(err)
			fmt.Println(string(line))
		}
	}
}
