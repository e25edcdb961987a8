package main

import (
	"context"
	"errors"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const heartbeatEvery = time.Second

// The store as a member of a real PD: it brings the cluster into being, tells how its regions are, and splits
// them when PD says so. What else PD may want of it (moves, merges) has no place to happen with one store.
type membership struct {
	node   *node
	client pdpb.PDClient
	header *pdpb.RequestHeader
	store  *metapb.Store
	split  chan *pdpb.RegionHeartbeatResponse
}

func join(n *node, pdAddress string) (*membership, error) {
	ctx, cancel := context.WithTimeout(context.Background(), secondsMax*time.Second)
	defer cancel()
	connection, err := grpc.DialContext(ctx, pdAddress, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithBlock())
	if err != nil {
		return nil, err
	}
	m := &membership{
		node: n, client: pdpb.NewPDClient(connection), store: n.placement.cluster.GetAllStores()[0],
		split: make(chan *pdpb.RegionHeartbeatResponse),
	}
	m.store.Version = storeVersion
	for m.bootstrap(ctx) != nil { // PD listens before it has a leader
		select {
		case <-ctx.Done():
			return nil, m.bootstrap(context.Background())
		case <-time.After(100 * time.Millisecond):
		}
	}
	if _, err := m.client.PutStore(ctx, &pdpb.PutStoreRequest{Header: m.header, Store: m.store}); err != nil {
		return nil, err
	}
	stream, err := m.client.RegionHeartbeat(context.Background())
	if err != nil {
		return nil, err
	}
	go m.receive(stream)
	go m.report(stream)
	return m, nil
}

func (m *membership) bootstrap(ctx context.Context) error {
	members, err := m.client.GetMembers(ctx, &pdpb.GetMembersRequest{})
	if err != nil {
		return err
	}
	m.header = &pdpb.RequestHeader{ClusterId: members.Header.ClusterId}
	region := m.node.placement.cluster.GetAllRegions()[0].Meta
	answer, err := m.client.Bootstrap(ctx, &pdpb.BootstrapRequest{Header: m.header, Store: m.store, Region: region})
	if err == nil && answer.Header.Error != nil {
		return errors.New(answer.Header.Error.String())
	}
	return err
}

func (m *membership) receive(stream pdpb.PD_RegionHeartbeatClient) {
	for {
		answer, err := stream.Recv()
		if err != nil {
			return
		}
		if answer.SplitRegion != nil {
			m.split <- answer
		}
	}
}

func (m *membership) report(stream pdpb.PD_RegionHeartbeatClient) {
	ticker := time.NewTicker(heartbeatEvery)
	for begun := uint32(time.Now().Unix()); ; {
		stats := &pdpb.StoreStats{StoreId: m.store.Id, Capacity: 1 << 40, Available: 1 << 39, StartTime: begun}
		m.client.StoreHeartbeat(context.Background(), &pdpb.StoreHeartbeatRequest{Header: m.header, Stats: stats})
		for _, one := range m.node.placement.cluster.GetAllRegions() {
			beat := &pdpb.RegionHeartbeatRequest{
				Header: m.header, Region: one.Meta, Leader: one.Meta.Peers[0], ApproximateSize: 10, ApproximateKeys: 1000,
			}
			if stream.Send(beat) != nil {
				return
			}
		}
		select {
		case answer := <-m.split:
			for _, key := range answer.SplitRegion.Keys {
				split(m.node.placement.cluster, key)
			}
		case <-ticker.C:
		}
	}
}
