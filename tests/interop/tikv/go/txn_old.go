//go:build v2_0_7

package main

import (
	"context"

	"github.com/tikv/client-go/v2/txnkv/transaction"
	"github.com/tikv/client-go/v2/txnkv/txnsnapshot"
)

func downTxn(txn *transaction.KVTxn, from, to []byte) pairs {
	it, err := txn.IterReverse(to)
	return collectDown(it, err, from)
}

func down(snapshot *txnsnapshot.KVSnapshot, from, to []byte) pairs {
	it, err := snapshot.IterReverse(to)
	return collectDown(it, err, from)
}

func commitTS(txn *transaction.KVTxn) uint64 {
	return transaction.TxnProbe{KVTxn: txn}.GetCommitTS()
}

// This version has no transactions that flush.
func (t *txnTest) listPipelined() {}

// Nor locks that are shared.
func (t *txnTest) listShared() {}

func (t *txnTest) listSharedGC() {}

func (t *txnTest) leaveFlushed(context.Context, bool, []string) {
	check(false, "there is no flush")
}
