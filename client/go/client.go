// Package runhub is the Go client of Runhub: a thin layer over the code generated from the protos.
//
// Call [Connect] once and share the [Client] between goroutines. Its fields are the services. A call has a deadline, is
// repeated while the server restarts or is overloaded, and fails with an [Error] that has a [Reason] to match on.
// [Client.KeepLease] keeps the lease of a claimed task during the work, and cancels the work if the lease is lost.
// [Client.Subscribe] follows the event log without a gap or a duplicate, through broken connections.
package runhub

import (
	"context"
	"time"

	"google.golang.org/grpc"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

const defaultDeadline = 30 * time.Second

// Client is a connection to a server. Each exported field is a service. It is safe for concurrent use.
type Client struct {
	Runs        v1.RunServiceClient
	Agents      v1.AgentServiceClient
	Tasks       v1.TaskServiceClient
	Events      v1.EventServiceClient
	Approvals   v1.ApprovalServiceClient
	Checkpoints v1.CheckpointServiceClient
	Artifacts   v1.ArtifactServiceClient
	Server      v1.ServerServiceClient

	conn *grpc.ClientConn
	// Repeats calls within their deadline.
	retrying retryConn
	// Makes each call once. The lease keeper and subscriptions use it, because they retry by themselves.
	single singleTryConn
	// Ends `single.lifetime`.
	endLifetime context.CancelFunc
}

// Option changes a default of [Connect].
type Option func(*settings)

type settings struct {
	deadline    time.Duration
	dialOptions []grpc.DialOption
}

// WithDeadline sets the time for all tries of a call. The default is 30 s. The client adds a request's `wait` to it. An
// earlier deadline of the call's own context applies too.
func WithDeadline(deadline time.Duration) Option {
	return func(settings *settings) { settings.deadline = deadline }
}

// WithDialOptions adds options of gRPC, which override the client's own. An interceptor sees every try of a call.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(settings *settings) { settings.dialOptions = append(settings.dialOptions, options...) }
}

// Connect returns a client of the server at HOST:PORT, http://HOST:PORT or unix:PATH. The client connects with the first
// call, and reconnects when the connection breaks. Connect fails with [ErrAddress] if the address has none of these forms,
// and with gRPC's error if an option is not valid.
func Connect(server string, options ...Option) (*Client, error) {
	settings := settings{deadline: defaultDeadline}
	for _, option := range options {
		option(&settings)
	}
	conn, err := dial(server, settings.dialOptions)
	if err != nil {
		return nil, err
	}
	lifetime, endLifetime := context.WithCancel(context.Background())
	single := singleTryConn{conn: conn, lifetime: lifetime}
	retrying := retryConn{singleTryConn: single, deadline: settings.deadline}
	return &Client{
		Runs:        v1.NewRunServiceClient(retrying),
		Agents:      v1.NewAgentServiceClient(retrying),
		Tasks:       v1.NewTaskServiceClient(retrying),
		Events:      v1.NewEventServiceClient(retrying),
		Approvals:   v1.NewApprovalServiceClient(retrying),
		Checkpoints: v1.NewCheckpointServiceClient(retrying),
		Artifacts:   v1.NewArtifactServiceClient(retrying),
		Server:      v1.NewServerServiceClient(retrying),
		conn:        conn,
		retrying:    retrying,
		single:      single,
		endLifetime: endLifetime,
	}, nil
}

// Conn returns the connection under the services, for stubs that other code generators made. Calls on it have the same
// deadline, retries and errors.
func (c *Client) Conn() grpc.ClientConnInterface {
	return c.retrying
}

// Close closes the connection. Running and later calls and subscriptions end with [ErrClosed], and leases are lost as
// [Unanswered].
func (c *Client) Close() error {
	c.endLifetime()
	return c.conn.Close()
}
