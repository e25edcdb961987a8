// The calls of the published Go client, made against a server: README.md has the commands.
package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc64"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/log"
	"github.com/tikv/client-go/v2/config"
	"github.com/tikv/client-go/v2/rawkv"
	"go.uber.org/zap"
)

const (
	sharedCount    = 300
	callSecondsMax = 300 // a bound on what hangs, also on a busy machine
	mib            = 1024 * 1024
)

type pairs struct {
	keys, values [][]byte
}

func (p pairs) part(from, to int) pairs {
	return pairs{p.keys[from:to], p.values[from:to]}
}

func (p pairs) reversed() pairs {
	r := pairs{slices.Clone(p.keys), slices.Clone(p.values)}
	slices.Reverse(r.keys)
	slices.Reverse(r.values)
	return r
}

func (p pairs) equal(other pairs) bool {
	return slices.EqualFunc(p.keys, other.keys, bytes.Equal) &&
		slices.EqualFunc(p.values, other.values, bytes.Equal)
}

type test struct {
	client        *rawkv.Client
	space, prefix string
	failed        bool
}

// A failure of check or must travels as a panic to run, which prints it.
type failure string

func check(condition bool, format string, arguments ...any) {
	if !condition {
		panic(failure(fmt.Sprintf(format, arguments...)))
	}
}

func must(err error) {
	if err != nil {
		panic(failure(strings.ReplaceAll(err.Error(), "\n", " ")))
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

func (t *test) fail(name string, why any) {
	t.failed = true
	fmt.Printf("not ok - %s: %v\n", name, why)
}

func (t *test) run(name string, body func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), callSecondsMax*time.Second)
	defer cancel()
	defer func() {
		switch why := recover().(type) {
		case nil:
			fmt.Printf("ok - %s\n", name)
		case failure:
			t.fail(name, why)
		default:
			panic(why)
		}
	}()
	body(ctx)
}

func (t *test) key(name string) []byte {
	return []byte(t.prefix + name)
}

// The keys of one test: everything that begins with its name.
func (t *test) bounds(name string) (from, to []byte) {
	return t.key(name + "/"), t.key(name + "0")
}

func (t *test) fill(ctx context.Context, name string, count int) (p pairs) {
	for i := range count {
		p.keys = append(p.keys, t.key(fmt.Sprintf("%s/%05d", name, i)))
		p.values = append(p.values, []byte(fmt.Sprintf("value %d", i)))
	}
	must(t.client.BatchPut(ctx, p.keys, p.values))
	return p
}

func (t *test) scan(ctx context.Context, from, to []byte, limit int, o ...rawkv.RawOption) pairs {
	keys, values, err := t.client.Scan(ctx, from, to, limit, o...)
	must(err)
	return pairs{keys, values}
}

func (t *test) reverseScan(ctx context.Context, from, to []byte, limit int) pairs {
	keys, values, err := t.client.ReverseScan(ctx, to, from, limit)
	must(err)
	return pairs{keys, values}
}

// What every client does.

func (t *test) oneKey(ctx context.Context) {
	key := t.key("one")
	check(got(t.client.Get(ctx, key)) == nil, "a key that was never put is there")
	must(t.client.Put(ctx, key, []byte("first")))
	check(string(got(t.client.Get(ctx, key))) == "first", "not what was put")
	must(t.client.Put(ctx, key, []byte("second")))
	check(string(got(t.client.Get(ctx, key))) == "second", "not overwritten")
	must(t.client.Delete(ctx, key))
	check(got(t.client.Get(ctx, key)) == nil, "there after delete")
	must(t.client.Delete(ctx, key))
}

func (t *test) emptyValue(ctx context.Context) {
	must(t.client.Put(ctx, t.key("empty"), []byte{}))
	value := got(t.client.Get(ctx, t.key("empty")))
	check(value != nil && len(value) == 0, "the empty value became %v", value)
}

func (t *test) batches(ctx context.Context) {
	p := t.fill(ctx, "batch", 1500)
	keys := append(slices.Clone(p.keys), t.key("batch/missing"))
	values := got(t.client.BatchGet(ctx, keys))
	check(values[1500] == nil, "a missing key is there")
	check(pairs{p.keys, values[:1500]}.equal(p), "batch get differs")
	must(t.client.BatchDelete(ctx, keys))
	for _, value := range got(t.client.BatchGet(ctx, keys)) {
		check(value == nil, "there after batch delete")
	}
}

func (t *test) scans(ctx context.Context) {
	p := t.fill(ctx, "scan", 1200)
	from, to := t.bounds("scan")
	check(t.scan(ctx, from, to, 5000).equal(p), "scan differs")
	check(t.scan(ctx, from, to, 7).equal(p.part(0, 7)), "scan with a limit differs")
	check(t.scan(ctx, p.keys[10], p.keys[20], 100).equal(p.part(10, 20)), "scan from key to key differs")
	keys := t.scan(ctx, from, to, 3, rawkv.ScanKeyOnly())
	check(slices.EqualFunc(keys.keys, p.keys[:3], bytes.Equal), "scan of keys differs")
	check(len(keys.values[0]) == 0, "scan of keys has values")
	_, _, err := t.client.Scan(ctx, from, to, 10241)
	check(err != nil, "a limit over the limit is taken")
}

func (t *test) reverseScans(ctx context.Context) {
	p := t.fill(ctx, "reverse", 600).reversed()
	from, to := t.bounds("reverse")
	check(t.reverseScan(ctx, from, to, 5000).equal(p), "all differs")
	check(t.reverseScan(ctx, from, to, 4).equal(p.part(0, 4)), "the last four differ")
	found := t.reverseScan(ctx, p.keys[9], p.keys[4], 100)
	check(found.equal(p.part(5, 10)), "scan from key to key differs")
}

func (t *test) deleteRange(ctx context.Context) {
	p := t.fill(ctx, "delete", 500)
	from, to := t.bounds("delete")
	must(t.client.DeleteRange(ctx, p.keys[100], p.keys[400]))
	check(t.scan(ctx, from, p.keys[400], 1000).equal(p.part(0, 100)), "the first hundred differ")
	check(t.scan(ctx, p.keys[100], to, 1000).equal(p.part(400, 500)), "the last hundred differ")
	must(t.client.DeleteRange(ctx, from, to))
	check(len(t.scan(ctx, from, to, 1).keys) == 0, "pairs are left")
}

func (t *test) timesToLive(ctx context.Context) {
	ttl := func(name string) *uint64 { return got(t.client.GetKeyTTL(ctx, t.key(name))) }
	value := []byte("v")
	must(t.client.Put(ctx, t.key("ttl/for-ever"), value))
	began := time.Now()
	must(t.client.PutWithTTL(ctx, t.key("ttl/long"), value, 100))
	check(*ttl("ttl/for-ever") == 0, "a key without an end has one")
	check(ttl("ttl/missing") == nil, "a missing key has an end")
	left := *ttl("ttl/long")
	passed := uint64(time.Since(began).Seconds())
	check(left <= 100 && left+passed >= 98, "100 s became %d after %d", left, passed)
	keys := [][]byte{t.key("ttl/short"), t.key("ttl/other")}
	began = time.Now() // before it is asked for: from the answer on it lives for what is left
	must(t.client.BatchPutWithTTL(ctx, keys, [][]byte{value, value}, []uint64{2, 100}))
	for got(t.client.Get(ctx, keys[0])) != nil {
		check(time.Since(began) < callSecondsMax*time.Second, "2 s do not pass")
		time.Sleep(50 * time.Millisecond)
	}
	check(time.Since(began) >= time.Second, "gone after %v", time.Since(began))
	from, to := t.bounds("ttl")
	check(len(t.scan(ctx, from, to, 10).keys) == 3, "the scan does not have three keys")
	must(t.client.Put(ctx, t.key("ttl/long"), value))
	check(*ttl("ttl/long") == 0, "a put without an end keeps the old one")
}

func (t *test) compareAndSwap(ctx context.Context) {
	key := t.key("cas")
	swap := func(previous []byte, value string, wantPrevious string, wantDone bool) {
		old, done, err := t.client.CompareAndSwap(ctx, key, previous, []byte(value))
		must(err)
		check(string(old) == wantPrevious && done == wantDone,
			"%q to %q: found %q, swapped %v", previous, value, old, done)
	}
	t.client.SetAtomicForCAS(true)
	defer t.client.SetAtomicForCAS(false)
	swap([]byte("x"), "1", "", false)
	swap(nil, "1", "", true)
	swap(nil, "2", "1", false)
	swap([]byte("9"), "2", "1", false)
	swap([]byte("1"), "2", "1", true)
	check(string(got(t.client.Get(ctx, key))) == "2", "another value than swapped in")
	must(t.client.Delete(ctx, key))
}

func (t *test) swapsOfMany(ctx context.Context) {
	t.client.SetAtomicForCAS(true)
	defer t.client.SetAtomicForCAS(false)
	t.inParallel(8, func(int) error {
		var seen []byte
		for done := 0; done < 25; {
			number, _ := strconv.Atoi(string(seen))
			next := []byte(strconv.Itoa(number + 1))
			previous, swapped, err := t.client.CompareAndSwap(ctx, t.key("counter"), seen, next)
			if err != nil {
				return err
			}
			seen = previous
			if swapped {
				done++
				seen = next
			}
		}
		return nil
	})
	sum := got(t.client.Get(ctx, t.key("counter")))
	check(string(sum) == "200", "200 swaps gave %q", sum)
}

func (t *test) columnFamilies(ctx context.Context) {
	key := t.key("family")
	for _, family := range []string{"write", "lock"} {
		must(t.client.Put(ctx, key, []byte(family), rawkv.SetColumnFamily(family)))
	}
	check(got(t.client.Get(ctx, key)) == nil, "families are not apart")
	must(t.client.Put(ctx, key, []byte("default"), rawkv.SetColumnFamily("default")))
	check(string(got(t.client.Get(ctx, key))) == "default", "default is not the default")
	must(t.client.Delete(ctx, key, rawkv.SetColumnFamily("write")))
	lock := got(t.client.Get(ctx, key, rawkv.SetColumnFamily("lock")))
	check(string(lock) == "lock", "deleted in another family, too")
	_, err := t.client.Get(ctx, key, rawkv.SetColumnFamily("nonsense"))
	check(err != nil, "an unknown family is taken")
}

func (t *test) checksums(ctx context.Context) {
	from, to := t.bounds("checksum")
	check(got(t.client.Checksum(ctx, from, to)).TotalKvs == 0, "an empty range has pairs")
	p := t.fill(ctx, "checksum", 50)
	var want rawkv.RawChecksum
	for i := range p.keys {
		pair := slices.Concat(p.keys[i], p.values[i])
		if t.space == "v2" { // the server counts a key as it is stored
			pair = append([]byte("r\x00\x00\x00"), pair...)
		}
		want.Crc64Xor ^= crc64.Checksum(pair, crc64.MakeTable(crc64.ECMA))
		want.TotalKvs++
		want.TotalBytes += uint64(len(pair))
	}
	sum := got(t.client.Checksum(ctx, from, to))
	check(sum == want, "sum of 50: %+v instead of %+v", sum, want)
}

func (t *test) sizes(ctx context.Context) {
	for _, size := range []int{64 * 1024, mib, 8*mib - 64*1024} {
		value := sharedValue(size)
		must(t.client.Put(ctx, t.key("size"), value))
		check(bytes.Equal(got(t.client.Get(ctx, t.key("size"))), value), "%d bytes differ", size)
	}
	must(t.client.Delete(ctx, t.key("size")))
	size := 8192
	if t.space == "v2" {
		size -= 4
	}
	key := append(t.key("long-key/"), bytes.Repeat([]byte("k"), size)...)[:size]
	must(t.client.Put(ctx, key, []byte("v")))
	check(string(got(t.client.Get(ctx, key))) == "v", "a key of the limit is missing")
	must(t.client.Delete(ctx, key))
}

func (t *test) oversizes(ctx context.Context) {
	key := append(t.key("too-long/"), bytes.Repeat([]byte("k"), 8193)...)[:8193]
	check(t.client.Put(ctx, key, []byte("v")) != nil, "a key over the limit is taken")
	err := t.client.Put(ctx, t.key("too-big"), make([]byte, 17*mib))
	check(err != nil, "a value over the limit is taken")
	check(got(t.client.Get(ctx, t.key("too-big"))) == nil, "there all the same")
}

func (t *test) inParallel(count int, body func(worker int) error) {
	var group sync.WaitGroup
	errs := make([]error, count)
	for worker := range count {
		group.Add(1)
		go func() {
			defer group.Done()
			errs[worker] = body(worker)
		}()
	}
	group.Wait()
	for _, err := range errs {
		must(err)
	}
}

func (t *test) workers(ctx context.Context) {
	t.inParallel(64, func(worker int) error {
		for i := range 50 {
			key := t.key(fmt.Sprintf("worker/%02d-%d", worker, i))
			if err := t.client.Put(ctx, key, key); err != nil {
				return err
			}
			if value, err := t.client.Get(ctx, key); err != nil || !bytes.Equal(value, key) {
				return fmt.Errorf("%s became %q: %w", key, value, err)
			}
		}
		return nil
	})
	from, to := t.bounds("worker")
	count := len(t.scan(ctx, from, to, 5000).keys)
	check(count == 64*50, "%d keys instead of %d", count, 64*50)
}

func (t *test) list() {
	t.run("a key is put, got and deleted", t.oneKey)
	t.run("an empty value is a value", t.emptyValue)
	t.run("batches are put, got and deleted", t.batches)
	t.run("scans", t.scans)
	t.run("scans backward", t.reverseScans)
	t.run("a range is deleted", t.deleteRange)
	t.run("keys live as long as told", t.timesToLive)
	t.run("values are compared and swapped", t.compareAndSwap)
	t.run("many swap one value", t.swapsOfMany)
	if t.space == "v2" {
		fmt.Println("ok - column families are apart # SKIP API V2 has none")
	} else {
		t.run("column families are apart", t.columnFamilies)
	}
	t.run("checksums", t.checksums)
	t.run("sizes up to the limits", t.sizes)
	t.run("sizes over the limits are errors", t.oversizes)
	t.run("answers of hundreds of MiB", t.largeScans)
	t.run("64 workers", t.workers)
	t.moreTests()
}

// A region begins in the middle of what most calls of the list touch; the clients find out.
func (t *test) split(ctx context.Context) {
	t.splitAt(ctx, "batch/00100", "batch/00700", "checksum/00025", "delete/00099",
		"delete/00250", "delete/00400", "ranges-a/00003", "reverse/00300", "scan/00000", "scan/00005",
		"scan/00015", "scan/01199", "worker/20", "worker/40")
}

func (t *test) splitShared(ctx context.Context) {
	t.splitAt(ctx, "0000", "0007", "0150", "0299")
}

func (t *test) splitAt(ctx context.Context, names ...string) {
	var keys [][]byte
	for _, name := range names {
		keys = append(keys, t.key(name))
	}
	response := got(t.client.GetPDClient().SplitRegions(ctx, keys))
	check(response.GetHeader().GetError() == nil, "%v", response.GetHeader().GetError())
	check(response.FinishedPercentage == 100, "split %d %%", response.FinishedPercentage)
	check(len(response.RegionsId) == len(keys), "%d new regions", len(response.RegionsId))
	for _, key := range keys {
		region := got(t.client.GetPDClient().GetRegion(ctx, key))
		check(bytes.Equal(region.Meta.StartKey, key), "the region of %q begins at %q", key, region.Meta.StartKey)
		before := got(t.client.GetPDClient().GetPrevRegion(ctx, key))
		check(bytes.Equal(before.Meta.EndKey, key), "the region before %q ends at %q", key, before.Meta.EndKey)
	}
}

// What one client writes for all others to read.

func sharedValue(number int) []byte {
	size := number
	if number < sharedCount {
		size = 1 + number*37%500
	}
	value := make([]byte, size)
	for at := range value {
		value[at] = byte(number*31 + at*7)
	}
	return value
}

func (t *test) shared() (p pairs) {
	for i := range sharedCount {
		p.keys = append(p.keys, append(t.key(fmt.Sprintf("%04d", i)), 0, 0xff, byte(i)))
		p.values = append(p.values, sharedValue(i))
	}
	return p
}

func (t *test) writeShared(ctx context.Context) {
	p := t.shared()
	for i := range 10 {
		must(t.client.Put(ctx, p.keys[i], p.values[i]))
	}
	must(t.client.BatchPut(ctx, p.keys[10:], p.values[10:]))
}

func (t *test) readShared(ctx context.Context) {
	p := t.shared()
	from, to := t.key(""), t.key("~")
	check(t.scan(ctx, from, to, 1000).equal(p), "scan differs")
	check(t.reverseScan(ctx, from, to, 1000).equal(p.reversed()), "scan backward differs")
	check(pairs{p.keys, got(t.client.BatchGet(ctx, p.keys))}.equal(p), "batch get differs")
	for i := 0; i < sharedCount; i += 29 {
		check(bytes.Equal(got(t.client.Get(ctx, p.keys[i])), p.values[i]), "get %d differs", i)
	}
}

// Load while the server is started anew, and to measure.

type load struct {
	*test
	seconds       int
	puts, errs    atomic.Int64
	errorsPrinted sync.Mutex
}

func (l *load) untilDone(call func(ctx context.Context) error) error {
	started := time.Now()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), callSecondsMax*time.Second)
		err := call(ctx)
		cancel()
		if err == nil || time.Since(started) > callSecondsMax*time.Second {
			return err
		}
		if l.errs.Add(1) <= 3 {
			fmt.Printf("# %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *load) worker(worker int) error {
	started := time.Now()
	key := func(number int) []byte { return l.key(fmt.Sprintf("%03d-%06d", worker, number)) }
	count := 0
	var value []byte
	var values [][]byte
	get := func(number int) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			value, err = l.client.Get(ctx, key(number))
			return err
		}
	}
	for ; time.Since(started) < time.Duration(l.seconds)*time.Second; count++ {
		put := func(ctx context.Context) error { return l.client.Put(ctx, key(count), key(count)) }
		if err := l.untilDone(put); err != nil {
			return err
		}
		if err := l.untilDone(get(count / 2)); err != nil {
			return err
		}
		if !bytes.Equal(value, key(count/2)) {
			return fmt.Errorf("number %d of %d is %q", count/2, count, value)
		}
	}
	for first := 0; first < count; first += 1000 {
		var keys [][]byte
		for number := first; number < min(count, first+1000); number++ {
			keys = append(keys, key(number))
		}
		batchGet := func(ctx context.Context) (err error) {
			values, err = l.client.BatchGet(ctx, keys)
			return err
		}
		if err := l.untilDone(batchGet); err != nil {
			return err
		}
		if !slices.EqualFunc(keys, values, bytes.Equal) {
			return fmt.Errorf("of %d puts some are lost", count)
		}
	}
	l.puts.Add(int64(count))
	return nil
}

func (t *test) load(workers, seconds int) {
	l := &load{test: t, seconds: seconds}
	fmt.Println("started")
	t.inParallel(workers, l.worker)
	fmt.Printf("# %d puts, each read again; %d calls failed meanwhile\n", l.puts.Load(), l.errs.Load())
}

func (t *test) measure(put bool, workers, seconds int) {
	const keys = 10000
	ctx := context.Background()
	value := bytes.Repeat([]byte("v"), 100)
	var p pairs
	for i := range keys {
		p.keys = append(p.keys, t.key(fmt.Sprintf("%08d", i)))
		p.values = append(p.values, value)
	}
	must(t.client.BatchPut(ctx, p.keys, p.values))
	var count atomic.Int64
	started := time.Now()
	t.inParallel(workers, func(worker int) (err error) {
		mine := 0
		for ; err == nil && time.Since(started) < time.Duration(seconds)*time.Second; mine++ {
			key := p.keys[(worker*7919+mine*31)%keys]
			if put {
				err = t.client.Put(ctx, key, value)
			} else {
				_, err = t.client.Get(ctx, key)
			}
		}
		count.Add(int64(mine))
		return err
	})
	fmt.Printf("rate %.0f\n", float64(count.Load())/time.Since(started).Seconds())
}

// For TLS: KVS_TLS names a folder with the authority, and who this client is.
func security() config.Security {
	folder := os.Getenv("KVS_TLS")
	if folder == "" {
		return config.Security{}
	}
	return config.NewSecurity(folder+"/ca.pem", folder+"/certificate.pem", folder+"/key.pem", nil)
}

// The client's own work goes on as long as this context does.
func connect(ctx context.Context, pd, space string) (*rawkv.Client, error) {
	options := []rawkv.ClientOpt{rawkv.WithSecurity(security())}
	if space == "v2" {
		options = append(options, rawkv.WithAPIVersion(kvrpcpb.APIVersion_V2), rawkv.WithKeyspace("DEFAULT"))
	}
	return rawkv.NewClientWithOpts(ctx, []string{pd}, options...)
}

func main() {
	log.ReplaceGlobals(zap.NewNop(), nil)
	config.UpdateGlobal(func(settings *config.Config) { settings.Security = security() }) // that of transactions
	arguments := append(os.Args[1:], "", "", "", "", "", "")
	number := func(at, usual int) int {
		if n, err := strconv.Atoi(arguments[at]); err == nil {
			return n
		}
		return usual
	}
	command, space := arguments[0], arguments[2]
	workers, seconds := number(4, 16), number(5, 5)
	if strings.HasPrefix(command, "txn-") {
		runTxn(command, arguments[1], space, arguments[3], arguments[4], workers, seconds)
		return
	}
	client, err := connect(context.Background(), arguments[1], space)
	if err != nil {
		fmt.Printf("not ok - connect: %v\n", err)
		os.Exit(1)
	}
	t := &test{client: client, space: space, prefix: arguments[3]}
	switch command {
	case "list":
		t.list()
	case "write":
		t.run(command, t.writeShared)
	case "read":
		t.run(command, t.readShared)
	case "split-shared":
		t.run(command, t.splitShared)
	case "split":
		t.run(command, t.split)
	case "load":
		t.run(command, func(context.Context) { t.load(workers, seconds) })
	case "get", "put":
		t.run(command, func(context.Context) { t.measure(command == "put", workers, seconds) })
	default:
		t.fail(command, "unknown command")
	}
	client.Close()
	if t.failed {
		os.Exit(1)
	}
}
