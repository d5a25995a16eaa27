package runhub

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// streamsPerConnection is the maximum number of open calls and streams on one connection. The fake server and a Runhub
// server have the same limit.
const streamsPerConnection = 1024

// fakeServer is a server whose handlers a test sets. The fake server records each request and the time of the request.
// The client connects to the server in memory, so that a synctest bubble controls the time.
type fakeServer struct {
	v1.UnimplementedRunServiceServer
	v1.UnimplementedTaskServiceServer
	v1.UnimplementedEventServiceServer
	v1.UnimplementedServerServiceServer

	// Handlers of the RPCs. The parameter `call` of a handler is the number of the call, which starts at 1.
	createRun func(ctx context.Context, call int) error
	claim     func(ctx context.Context, call int) error
	heartbeat func(ctx context.Context, call int) (v1.LeaseState, error)
	subscribe func(call int, stream grpc.ServerStreamingServer[v1.SubscribeEventsResponse]) error
	logID     func(ctx context.Context, call int) string

	lock       sync.Mutex
	runs       []*v1.CreateRunRequest
	claims     []*v1.ClaimTaskRequest
	heartbeats []*v1.HeartbeatRequest
	subscribed []*v1.SubscribeEventsRequest
	times      []time.Time
	infos      int

	// Number of connections that clients have opened since the start of the server.
	opened atomic.Int32
	// Number of connections that clients have opened and not closed.
	open atomic.Int32
}

// serve starts the fake server and returns a client of the server. The client and the server are closed at the end of
// the test.
func (f *fakeServer) serve(t *testing.T, options ...Option) *Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(
		// The fake server accepts requests of up to twice maxResponseBytes, so that a test can send a request whose response
		// is too large for the client.
		grpc.MaxRecvMsgSize(2*maxResponseBytes),
		grpc.MaxConcurrentStreams(streamsPerConnection),
		// The server accepts frequent keepalive pings, as a Runhub server does. By default, gRPC would close the
		// connection, because the client sends a ping every 20 s.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	f.register(server)
	go func() {
		if err := server.Serve(listener); err != nil {
			t.Errorf("the fake server: %v", err)
		}
	}()
	t.Cleanup(server.Stop)
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := listener.DialContext(ctx)
		if err != nil {
			return nil, err
		}
		return f.count(conn), nil
	})
	return connect(t, "fake:1", append(options, WithDialOptions(dialer))...)
}

// countedConn is a connection that a fake server counts as open until the client closes the connection.
type countedConn struct {
	net.Conn
	uncount func()
}

func (f *fakeServer) count(conn net.Conn) countedConn {
	f.opened.Add(1)
	f.open.Add(1)
	return countedConn{Conn: conn, uncount: sync.OnceFunc(func() { f.open.Add(-1) })}
}

func (c countedConn) Close() error {
	c.uncount()
	return c.Conn.Close()
}

func (f *fakeServer) register(server *grpc.Server) {
	v1.RegisterRunServiceServer(server, f)
	v1.RegisterTaskServiceServer(server, f)
	v1.RegisterEventServiceServer(server, f)
	v1.RegisterServerServiceServer(server, f)
}

func connect(t *testing.T, address string, options ...Option) *Client {
	t.Helper()
	client, err := Connect(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	// The cleanup ignores the error of Close, because a test may have closed the client already.
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// record stores a request and the current time, and returns the number of the call.
func record[T any](f *fakeServer, requests *[]T, request T) int {
	f.lock.Lock()
	defer f.lock.Unlock()
	*requests = append(*requests, request)
	f.times = append(f.times, time.Now())
	return len(*requests)
}

func (f *fakeServer) CreateRun(ctx context.Context, request *v1.CreateRunRequest) (*v1.CreateRunResponse, error) {
	call := record(f, &f.runs, request)
	return &v1.CreateRunResponse{Run: &v1.Run{Goal: request.GetGoal()}}, f.createRun(ctx, call)
}

func (f *fakeServer) ClaimTask(ctx context.Context, request *v1.ClaimTaskRequest) (*v1.ClaimTaskResponse, error) {
	return &v1.ClaimTaskResponse{}, f.claim(ctx, record(f, &f.claims, request))
}

func (f *fakeServer) Heartbeat(ctx context.Context, request *v1.HeartbeatRequest) (*v1.HeartbeatResponse, error) {
	state, err := f.heartbeat(ctx, record(f, &f.heartbeats, request))
	return &v1.HeartbeatResponse{Results: []*v1.BeatResult{{State: state}}}, err
}

func (f *fakeServer) SubscribeEvents(
	request *v1.SubscribeEventsRequest, stream grpc.ServerStreamingServer[v1.SubscribeEventsResponse],
) error {
	return f.subscribe(record(f, &f.subscribed, request), stream)
}

func (f *fakeServer) GetServerInfo(ctx context.Context, _ *v1.GetServerInfoRequest) (*v1.GetServerInfoResponse, error) {
	if f.logID == nil {
		return &v1.GetServerInfoResponse{LogId: "log"}, nil
	}
	f.lock.Lock()
	f.infos++
	call := f.infos
	f.lock.Unlock()
	return &v1.GetServerInfoResponse{LogId: f.logID(ctx, call)}, nil
}

// refusal returns an error in the format of a Runhub server, with the passed code, reason and details.
func refusal(code codes.Code, reason Reason, details ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{Domain: domain, Reason: string(reason), Metadata: map[string]string{"current_status": "RUNNING"}}
	refused, err := status.New(code, "refused by the test").WithDetails(append(details, info)...)
	if err != nil {
		return err
	}
	return refused.Err()
}

// retryAfter returns an error detail with the passed retry delay.
func retryAfter(delay time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}
