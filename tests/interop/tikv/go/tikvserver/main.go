// A TiKV and a PD to test our client against that are not ours: the ones client-go tests itself with
// (its package testutils, in memory), put behind real ports.
//
//	tikvserver PD_ADDRESS STORE_ADDRESS [join]
//
// With join there is a PD already, which does not know of any store; this one becomes its only one.
// A line "close" on standard input breaks all connections and frees the ports, "open" takes them again.
// What that store has not, its calls refuse as UNIMPLEMENTED: times to live.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/pingcap/log"
	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/tikvrpc"
	pd "github.com/tikv/pd/client"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	secondsMax      = 10
	messageBytesMax = 64 * 1024 * 1024
	storeVersion    = "6.5.0" // of the calls that are here
)

// --- the store -----------------------------------------------------------------------------------

type store struct {
	tikvpb.UnimplementedTikvServer
	client   *testutils.MockClient
	address  string
	swapping sync.Mutex
}

type request interface{ GetContext() *kvrpcpb.Context }

// The store knows its default family by another name.
func family(name string) string {
	if name == "" || name == "default" {
		return "CF_DEFAULT"
	}
	return name
}

// The store takes and gives the same messages as come over the wire.
func call[R any](s *store, ctx context.Context, kind tikvrpc.CmdType, r request) (reply R, err error) {
	var region kvrpcpb.Context
	if r.GetContext() != nil {
		region = *r.GetContext()
	}
	response, err := s.client.SendRequest(ctx, s.address, tikvrpc.NewRequest(kind, r, region), secondsMax*time.Second)
	if err != nil {
		return reply, status.Error(codes.Unavailable, err.Error())
	}
	reply, ok := response.Resp.(R)
	if !ok {
		return reply, status.Errorf(codes.Internal, "the store answered %T", response.Resp)
	}
	return reply, nil
}

func (s *store) RawGet(ctx context.Context, r *kvrpcpb.RawGetRequest) (*kvrpcpb.RawGetResponse, error) {
	r.Cf = family(r.Cf)
	return call[*kvrpcpb.RawGetResponse](s, ctx, tikvrpc.CmdRawGet, r)
}

func (s *store) RawBatchGet(ctx context.Context, r *kvrpcpb.RawBatchGetRequest) (*kvrpcpb.RawBatchGetResponse, error) {
	answer := &kvrpcpb.RawBatchGetResponse{} // of what is there only; the store's own has all keys
	for _, key := range r.Keys {
		one, err := s.RawGet(ctx, &kvrpcpb.RawGetRequest{Context: r.Context, Key: key, Cf: r.Cf})
		if err != nil || one.RegionError != nil {
			return &kvrpcpb.RawBatchGetResponse{RegionError: one.GetRegionError()}, err
		}
		if !one.NotFound {
			answer.Pairs = append(answer.Pairs, &kvrpcpb.KvPair{Key: key, Value: one.Value})
		}
	}
	return answer, nil
}

func (s *store) RawPut(ctx context.Context, r *kvrpcpb.RawPutRequest) (*kvrpcpb.RawPutResponse, error) {
	r.Cf = family(r.Cf)
	if r.Ttl != 0 {
		return nil, status.Error(codes.Unimplemented, "this store has no times to live")
	}
	return call[*kvrpcpb.RawPutResponse](s, ctx, tikvrpc.CmdRawPut, r)
}

func (s *store) RawBatchPut(ctx context.Context, r *kvrpcpb.RawBatchPutRequest) (*kvrpcpb.RawBatchPutResponse, error) {
	r.Cf = family(r.Cf)
	for _, ttl := range append(r.Ttls, r.Ttl) {
		if ttl != 0 {
			return nil, status.Error(codes.Unimplemented, "this store has no times to live")
		}
	}
	return call[*kvrpcpb.RawBatchPutResponse](s, ctx, tikvrpc.CmdRawBatchPut, r)
}

func (s *store) RawDelete(ctx context.Context, r *kvrpcpb.RawDeleteRequest) (*kvrpcpb.RawDeleteResponse, error) {
	r.Cf = family(r.Cf)
	return call[*kvrpcpb.RawDeleteResponse](s, ctx, tikvrpc.CmdRawDelete, r)
}

func (s *store) RawBatchDelete(ctx context.Context, r *kvrpcpb.RawBatchDeleteRequest) (*kvrpcpb.RawBatchDeleteResponse, error) {
	// The store's RPC layer answers this one without doing it, so it goes a key at a time.
	for _, key := range r.Keys {
		reply, err := s.RawDelete(ctx, &kvrpcpb.RawDeleteRequest{Context: r.Context, Key: key, Cf: r.Cf})
		if err != nil || reply.RegionError != nil {
			return &kvrpcpb.RawBatchDeleteResponse{RegionError: reply.GetRegionError()}, err
		}
	}
	return &kvrpcpb.RawBatchDeleteResponse{}, nil
}

func (s *store) RawDeleteRange(ctx context.Context, r *kvrpcpb.RawDeleteRangeRequest) (*kvrpcpb.RawDeleteRangeResponse, error) {
	r.Cf = family(r.Cf)
	return call[*kvrpcpb.RawDeleteRangeResponse](s, ctx, tikvrpc.CmdRawDeleteRange, r)
}

func (s *store) RawScan(ctx context.Context, r *kvrpcpb.RawScanRequest) (*kvrpcpb.RawScanResponse, error) {
	r.Cf = family(r.Cf)
	answer, err := call[*kvrpcpb.RawScanResponse](s, ctx, tikvrpc.CmdRawScan, r)
	if err == nil && r.KeyOnly {
		for _, pair := range answer.Kvs {
			pair.Value = nil
		}
	}
	return answer, err
}

// The store's own fails for a key that is missing.
func (s *store) RawCompareAndSwap(ctx context.Context, r *kvrpcpb.RawCASRequest) (*kvrpcpb.RawCASResponse, error) {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	old, err := s.RawGet(ctx, &kvrpcpb.RawGetRequest{Context: r.Context, Key: r.Key, Cf: r.Cf})
	if err != nil || old.RegionError != nil {
		return &kvrpcpb.RawCASResponse{RegionError: old.GetRegionError()}, err
	}
	answer := &kvrpcpb.RawCASResponse{PreviousNotExist: old.NotFound, PreviousValue: old.Value}
	if old.NotFound != r.PreviousNotExist || !bytes.Equal(old.Value, r.PreviousValue) {
		return answer, nil
	}
	put, err := s.RawPut(ctx, &kvrpcpb.RawPutRequest{
		Context: r.Context, Key: r.Key, Value: r.Value, Cf: r.Cf, Ttl: r.Ttl,
	})
	if err != nil || put.RegionError != nil {
		return &kvrpcpb.RawCASResponse{RegionError: put.GetRegionError()}, err
	}
	answer.Succeed = true
	return answer, nil
}

func (s *store) RawChecksum(ctx context.Context, r *kvrpcpb.RawChecksumRequest) (*kvrpcpb.RawChecksumResponse, error) {
	return call[*kvrpcpb.RawChecksumResponse](s, ctx, tikvrpc.CmdRawChecksum, r)
}

func (s *store) SplitRegion(ctx context.Context, r *kvrpcpb.SplitRegionRequest) (*kvrpcpb.SplitRegionResponse, error) {
	return call[*kvrpcpb.SplitRegionResponse](s, ctx, tikvrpc.CmdSplitRegion, r)
}

type (
	batchRequest  = tikvpb.BatchCommandsRequest_Request
	batchResponse = tikvpb.BatchCommandsResponse_Response
)

func (s *store) batchCommand(ctx context.Context, r *batchRequest) (*batchResponse, error) {
	answer := &batchResponse{}
	var err error
	switch command := r.Cmd.(type) {
	case *tikvpb.BatchCommandsRequest_Request_RawGet:
		c := &tikvpb.BatchCommandsResponse_Response_RawGet{}
		c.RawGet, err = s.RawGet(ctx, command.RawGet)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_RawBatchGet:
		c := &tikvpb.BatchCommandsResponse_Response_RawBatchGet{}
		c.RawBatchGet, err = s.RawBatchGet(ctx, command.RawBatchGet)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_RawPut:
		c := &tikvpb.BatchCommandsResponse_Response_RawPut{}
		c.RawPut, err = s.RawPut(ctx, command.RawPut)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_RawBatchPut:
		c := &tikvpb.BatchCommandsResponse_Response_RawBatchPut{}
		c.RawBatchPut, err = s.RawBatchPut(ctx, command.RawBatchPut)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_RawDelete:
		c := &tikvpb.BatchCommandsResponse_Response_RawDelete{}
		c.RawDelete, err = s.RawDelete(ctx, command.RawDelete)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_RawBatchDelete:
		c := &tikvpb.BatchCommandsResponse_Response_RawBatchDelete{}
		c.RawBatchDelete, err = s.RawBatchDelete(ctx, command.RawBatchDelete)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_RawDeleteRange:
		c := &tikvpb.BatchCommandsResponse_Response_RawDeleteRange{}
		c.RawDeleteRange, err = s.RawDeleteRange(ctx, command.RawDeleteRange)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_RawScan:
		c := &tikvpb.BatchCommandsResponse_Response_RawScan{}
		c.RawScan, err = s.RawScan(ctx, command.RawScan)
		answer.Cmd = c
	case *tikvpb.BatchCommandsRequest_Request_Empty:
		answer.Cmd = &tikvpb.BatchCommandsResponse_Response_Empty{
			Empty: &tikvpb.BatchCommandsEmptyResponse{TestId: command.Empty.TestId},
		}
	default:
		err = status.Errorf(codes.Unimplemented, "%T in a batch", r.Cmd)
	}
	return answer, err
}

func (s *store) BatchCommands(stream tikvpb.Tikv_BatchCommandsServer) error {
	for {
		batch, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		answer := &tikvpb.BatchCommandsResponse{RequestIds: batch.RequestIds}
		for _, r := range batch.Requests {
			one, err := s.batchCommand(stream.Context(), r)
			if err != nil {
				return err
			}
			answer.Responses = append(answer.Responses, one)
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// --- PD ------------------------------------------------------------------------------------------

type placement struct {
	pdpb.UnimplementedPDServer
	keyspacepb.UnimplementedKeyspaceServer
	client    pd.Client
	cluster   *testutils.MockCluster
	address   string
	splitting sync.Mutex

	oracle            sync.Mutex
	physical, logical int64
}

func (p *placement) header(ctx context.Context) *pdpb.ResponseHeader {
	return &pdpb.ResponseHeader{ClusterId: p.client.GetClusterID(ctx)}
}

func (p *placement) GetMembers(ctx context.Context, _ *pdpb.GetMembersRequest) (*pdpb.GetMembersResponse, error) {
	url := []string{"http://" + p.address}
	me := &pdpb.Member{Name: "pd", MemberId: 1, ClientUrls: url, PeerUrls: url}
	return &pdpb.GetMembersResponse{
		Header: p.header(ctx), Members: []*pdpb.Member{me}, Leader: me, EtcdLeader: me,
	}, nil
}

func (p *placement) Tso(stream pdpb.PD_TsoServer) error {
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		answer := &pdpb.TsoResponse{
			Header: p.header(stream.Context()), Count: r.Count, Timestamp: p.timestamps(int64(r.Count)),
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// The last one of as many as asked for. The store's own oracle has no batches.
func (p *placement) timestamps(count int64) *pdpb.Timestamp {
	p.oracle.Lock()
	defer p.oracle.Unlock()
	if now := time.Now().UnixMilli(); now > p.physical || p.logical+count >= 1<<18 {
		p.physical, p.logical = max(now, p.physical+1), 0
	}
	p.logical += count
	return &pdpb.Timestamp{Physical: p.physical, Logical: p.logical}
}

func (p *placement) region(ctx context.Context, region *pd.Region, err error) (*pdpb.GetRegionResponse, error) {
	if err != nil {
		return nil, err
	}
	answer := &pdpb.GetRegionResponse{Header: p.header(ctx)}
	if region != nil && region.Meta != nil {
		answer.Region, answer.Leader = region.Meta, region.Leader
	}
	return answer, nil
}

func (p *placement) GetRegion(ctx context.Context, r *pdpb.GetRegionRequest) (*pdpb.GetRegionResponse, error) {
	region, err := p.client.GetRegion(ctx, r.RegionKey)
	return p.region(ctx, region, err)
}

func (p *placement) GetPrevRegion(ctx context.Context, r *pdpb.GetRegionRequest) (*pdpb.GetRegionResponse, error) {
	region, err := p.client.GetPrevRegion(ctx, r.RegionKey)
	return p.region(ctx, region, err)
}

func (p *placement) GetRegionByID(ctx context.Context, r *pdpb.GetRegionByIDRequest) (*pdpb.GetRegionResponse, error) {
	region, err := p.client.GetRegionByID(ctx, r.RegionId)
	return p.region(ctx, region, err)
}

func (p *placement) ScanRegions(ctx context.Context, r *pdpb.ScanRegionsRequest) (*pdpb.ScanRegionsResponse, error) {
	regions, err := p.client.ScanRegions(ctx, r.StartKey, r.EndKey, int(r.Limit))
	if err != nil {
		return nil, err
	}
	answer := &pdpb.ScanRegionsResponse{Header: p.header(ctx)}
	for _, one := range regions {
		answer.RegionMetas = append(answer.RegionMetas, one.Meta)
		answer.Leaders = append(answer.Leaders, one.Leader)
		answer.Regions = append(answer.Regions, &pdpb.Region{Region: one.Meta, Leader: one.Leader})
	}
	return answer, nil
}

func (p *placement) GetStore(ctx context.Context, r *pdpb.GetStoreRequest) (*pdpb.GetStoreResponse, error) {
	one := p.cluster.GetStore(r.StoreId)
	if one == nil {
		header := p.header(ctx)
		header.Error = &pdpb.Error{Type: pdpb.ErrorType_UNKNOWN, Message: "no such store"}
		return &pdpb.GetStoreResponse{Header: header}, nil
	}
	one.Version = storeVersion
	return &pdpb.GetStoreResponse{Header: p.header(ctx), Store: one}, nil
}

func (p *placement) GetAllStores(ctx context.Context, _ *pdpb.GetAllStoresRequest) (*pdpb.GetAllStoresResponse, error) {
	answer := &pdpb.GetAllStoresResponse{Header: p.header(ctx), Stores: p.cluster.GetAllStores()}
	for _, one := range answer.Stores {
		one.Version = storeVersion
	}
	return answer, nil
}

func (p *placement) IsBootstrapped(ctx context.Context, _ *pdpb.IsBootstrappedRequest) (*pdpb.IsBootstrappedResponse, error) {
	return &pdpb.IsBootstrappedResponse{Header: p.header(ctx), Bootstrapped: true}, nil
}

func (p *placement) SplitRegions(ctx context.Context, r *pdpb.SplitRegionsRequest) (*pdpb.SplitRegionsResponse, error) {
	p.splitting.Lock()
	defer p.splitting.Unlock()
	answer := &pdpb.SplitRegionsResponse{Header: p.header(ctx), FinishedPercentage: 100}
	for _, key := range r.SplitKeys {
		if id := split(p.cluster, key); id != 0 {
			answer.RegionsId = append(answer.RegionsId, id)
		}
	}
	return answer, nil
}

// The new region's id; 0 when one begins there already.
func split(cluster *testutils.MockCluster, key []byte) uint64 {
	region, _, _ := cluster.GetRegionByKey(key)
	if string(region.StartKey) == string(key) {
		return 0
	}
	id, peers := cluster.AllocID(), cluster.AllocIDs(len(region.Peers))
	cluster.SplitRaw(region.Id, id, key, peers, peers[0])
	return id
}

func (p *placement) LoadKeyspace(ctx context.Context, r *keyspacepb.LoadKeyspaceRequest) (*keyspacepb.LoadKeyspaceResponse, error) {
	if r.Name != "DEFAULT" {
		header := p.header(ctx)
		header.Error = &pdpb.Error{Type: pdpb.ErrorType_ENTRY_NOT_FOUND, Message: "no such keyspace"}
		return &keyspacepb.LoadKeyspaceResponse{Header: header}, nil
	}
	return &keyspacepb.LoadKeyspaceResponse{
		Header: p.header(ctx), Keyspace: &keyspacepb.KeyspaceMeta{Name: r.Name},
	}, nil
}

func (p *placement) GetGCSafePoint(ctx context.Context, _ *pdpb.GetGCSafePointRequest) (*pdpb.GetGCSafePointResponse, error) {
	return &pdpb.GetGCSafePointResponse{Header: p.header(ctx)}, nil
}

// --- ports ---------------------------------------------------------------------------------------

func serve(address string, register func(server *grpc.Server)) (*grpc.Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(messageBytesMax), grpc.MaxSendMsgSize(messageBytesMax))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	register(server)
	go server.Serve(listener)
	return server, nil
}

type node struct {
	store     *store
	placement *placement
	servers   []*grpc.Server
	joined    bool // a PD of its own is not served
}

func keyspacePrefixes(any bool) []string {
	if !any {
		return nil
	}
	return []string{"r\x00\x00\x00", "r\x00\x00\x01", "x\x00\x00\x00", "x\x00\x00\x01"}
}

func newNode(pdAddress, storeAddress string, keyspaces bool) (*node, error) {
	client, cluster, pdClient, err := testutils.NewMockTiKV("", nil)
	if err != nil {
		return nil, err
	}
	storeID, _, _ := testutils.BootstrapWithSingleStore(cluster)
	cluster.UpdateStoreAddr(storeID, storeAddress, &metapb.StoreLabel{})
	// Where a real PD splits for the keyspace DEFAULT: the encoded r000000, r000001, x000000, x000001.
	for _, prefix := range keyspacePrefixes(keyspaces) {
		split(cluster, []byte(prefix+"\x00\x00\x00\x00\xfb"))
	}
	return &node{
		store:     &store{client: client, address: storeAddress},
		placement: &placement{client: pdClient, cluster: cluster, address: pdAddress},
	}, nil
}

func (n *node) open() error {
	stores, err := serve(n.store.address, func(server *grpc.Server) { tikvpb.RegisterTikvServer(server, n.store) })
	if err != nil {
		return err
	}
	n.servers = []*grpc.Server{stores}
	if n.joined {
		return nil
	}
	placements, err := serve(n.placement.address, func(server *grpc.Server) {
		pdpb.RegisterPDServer(server, n.placement)
		keyspacepb.RegisterKeyspaceServer(server, n.placement)
	})
	n.servers = append(n.servers, placements)
	return err
}

// Breaks all connections; what is under way may have been done or not.
func (n *node) close() {
	for _, server := range n.servers {
		server.Stop()
	}
}

func run(pdAddress, storeAddress string, joins bool) error {
	n, err := newNode(pdAddress, storeAddress, !joins)
	if err != nil {
		return err
	}
	n.joined = joins
	if err := n.open(); err != nil {
		return err
	}
	if joins {
		if _, err := join(n, pdAddress); err != nil {
			return err
		}
	}
	fmt.Println("listening on", storeAddress)
	for words := bufio.NewScanner(os.Stdin); words.Scan(); { // serves until its starter goes away
		switch words.Text() {
		case "close":
			n.close()
		case "open":
			if err := n.open(); err != nil {
				return err
			}
		}
	}
	return nil
}

func main() {
	log.ReplaceGlobals(zap.NewNop(), nil)
	joins := len(os.Args) == 4 && os.Args[3] == "join"
	if len(os.Args) != 3 && !joins {
		fmt.Fprintln(os.Stderr, "usage: tikvserver PD_ADDRESS STORE_ADDRESS [join]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], joins); err != nil {
		fmt.Fprintln(os.Stderr, "tikvserver:", err)
		os.Exit(1)
	}
}
