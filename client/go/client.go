// Package runhub is the Go client of Runhub: a thin layer over the code generated from its protos.
//
// [Connect] once and share the [Client] between goroutines. Its fields are the services, whose calls have a deadline,
// are made again through restarts of the server, and fail with an [Error] that has a [Reason] to match on.
// [Client.KeepLease] keeps a claimed task while it is worked on, and cancels the work when the lease is lost.
// [Client.Subscribe] watches the log without a gap or a duplicate.
package runhub

import (
	"context"
	"time"

	"google.golang.org/grpc"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

const defaultDeadline = 30 * time.Second

// Client is a connection to a server, with its services. It is safe for concurrent use.
type Client struct {
	Runs        v1.RunServiceClient
	Agents      v1.AgentServiceClient
	Tasks       v1.TaskServiceClient
	Events      v1.EventServiceClient
	Approvals   v1.ApprovalServiceClient
	Checkpoints v1.CheckpointServiceClient
	Artifacts   v1.ArtifactServiceClient
	Server      v1.ServerServiceClient

	conn  *grpc.ClientConn
	calls grpc.ClientConnInterface
	// For who repeats by itself: the lease keeper, and subscriptions.
	once tries
	// Ends `once.open`.
	shut context.CancelFunc
}

// Option changes what [Connect] does by default.
type Option func(*settings)

type settings struct {
	deadline    time.Duration
	dialOptions []grpc.DialOption
}

// WithDeadline sets how long a call may take, all its tries together: 30 s by default. A request's `wait` comes on top.
// A deadline of the call's own context that is earlier holds as well.
func WithDeadline(deadline time.Duration) Option {
	return func(settings *settings) { settings.deadline = deadline }
}

// WithDialOptions adds options of gRPC, which win over the client's own. Interceptors among them see every try.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(settings *settings) { settings.dialOptions = append(settings.dialOptions, options...) }
}

// Connect makes a client of the server at HOST:PORT, http://HOST:PORT or unix:PATH. It connects with the first call, and
// again whenever the connection breaks. The error is [ErrAddress], or what gRPC has against an option.
func Connect(server string, options ...Option) (*Client, error) {
	settings := settings{deadline: defaultDeadline}
	for _, option := range options {
		option(&settings)
	}
	conn, err := dial(server, settings.dialOptions)
	if err != nil {
		return nil, err
	}
	open, shut := context.WithCancel(context.Background())
	once := tries{conn: conn, open: open}
	calls := repeated{tries: once, deadline: settings.deadline}
	return &Client{
		Runs:        v1.NewRunServiceClient(calls),
		Agents:      v1.NewAgentServiceClient(calls),
		Tasks:       v1.NewTaskServiceClient(calls),
		Events:      v1.NewEventServiceClient(calls),
		Approvals:   v1.NewApprovalServiceClient(calls),
		Checkpoints: v1.NewCheckpointServiceClient(calls),
		Artifacts:   v1.NewArtifactServiceClient(calls),
		Server:      v1.NewServerServiceClient(calls),
		conn:        conn,
		calls:       calls,
		once:        once,
		shut:        shut,
	}, nil
}

// Conn is the connection under the services, for stubs of another make: calls over it have the same deadline, tries and
// errors.
func (c *Client) Conn() grpc.ClientConnInterface {
	return c.calls
}

// Close ends the connection, and with it what is still under way, at once: calls and subscriptions end with [ErrClosed],
// and leases are lost as [Unanswered].
func (c *Client) Close() error {
	c.shut()
	return c.conn.Close()
}
