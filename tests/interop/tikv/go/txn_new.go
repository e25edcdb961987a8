//go:build !v2_0_7

package main

import (
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"github.com/tikv/client-go/v2/txnkv/txnsnapshot"
)

func downTxn(txn *transaction.KVTxn, from, to []byte) pairs {
	it, err := txn.IterReverse(to, from)
	return collectDown(it, err, from)
}

func down(snapshot *txnsnapshot.KVSnapshot, from, to []byte) pairs {
	it, err := snapshot.IterReverse(to, from)
	return collectDown(it, err, from)
}

func commitTS(txn *transaction.KVTxn) uint64 {
	return txn.CommitTS()
}
