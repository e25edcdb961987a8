//go:build !v2_0_7

package main

import (
	"context"
	"time"

	"github.com/tikv/pd/client/clients/gc"
	"github.com/tikv/pd/client/constants"
)

func (t *test) moreTests() {
	if t.space == "v1" { // one space is enough: keyspaces share the safe points
		t.run("safe points and barriers", t.safePoints)
	}
}

func holds(barriers []*gc.GCBarrierInfo, name string, at uint64) bool {
	for _, one := range barriers {
		if one.BarrierID == name && one.BarrierTS == at {
			return true
		}
	}
	return false
}

// They never go back, so each run takes them to an hour before its own time.
func (t *test) safePoints(ctx context.Context) {
	states := t.client.GetPDClient().GetGCStatesClient(constants.NullKeyspaceID)
	control := t.client.GetPDClient().GetGCInternalController(constants.NullKeyspaceID)
	at := uint64(time.Now().Add(-time.Hour).UnixMilli()) << 18
	check(got(states.SetGCBarrier(ctx, "interop", at, 100*time.Second)).BarrierTS == at, "another barrier than set")
	moved := got(control.AdvanceTxnSafePoint(ctx, at+1000))
	check(moved.NewTxnSafePoint == at && moved.BlockerDescription != "", "the barrier does not hold: %+v", moved)
	state := got(states.GetGCState(ctx))
	check(state.TxnSafePoint == at, "the transaction safe point is %d, not %d", state.TxnSafePoint, at)
	check(holds(state.GCBarriers, "interop", at), "the barrier is not among %d", len(state.GCBarriers))
	_, err := control.AdvanceGCSafePoint(ctx, at+1)
	check(err != nil, "the GC safe point passes the transactions'")
	check(got(control.AdvanceGCSafePoint(ctx, at)).NewGCSafePoint == at, "the GC safe point does not move")
	check(got(states.DeleteGCBarrier(ctx, "interop")).BarrierTS == at, "another barrier than deleted")
	check(got(states.DeleteGCBarrier(ctx, "interop")) == nil, "deleted twice")
	moved = got(control.AdvanceTxnSafePoint(ctx, at+1000))
	check(moved.NewTxnSafePoint == at+1000 && moved.BlockerDescription == "", "blocked: %+v", moved)
	_, err = control.AdvanceTxnSafePoint(ctx, at)
	check(err != nil, "the transaction safe point goes back")
	_, err = states.SetGCBarrier(ctx, "late", at, 100*time.Second)
	check(err != nil, "a barrier below the transaction safe point is taken")
}
