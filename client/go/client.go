// Package runhub is the Go client of Runhub. It is a thin layer over the code that is generated from the protos.
//
// Call [Connect] once and share the [Client] between goroutines. Each exported field of the client is a service. Until
// the deadline of a call, the client retries the call while the server restarts or is overloaded. A failed call returns
// an [Error]; match its [Reason] to handle the failure. [Client.KeepLease] renews the lease of a claimed task during
// the attempt. If the lease is lost, the context of the attempt is cancelled. [Client.Subscribe] follows the event log
// without a gap or a duplicate, even if connections break.
package runhub

import (
	"context"
	"time"

	"google.golang.org/grpc"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

const defaultDeadline = 30 * time.Second

// Client makes calls to a server, with one exported field for each service. A Client is safe for concurrent use.
//
// The first connection carries the calls that the server answers immediately. The client opens further connections for
// streams and for calls whose request has a `wait`. Each further connection carries at most 100 of these streams and
// calls at a time, and stays open for reuse until [Client.Close].
type Client struct {
	Runs        v1.RunServiceClient
	Agents      v1.AgentServiceClient
	Tasks       v1.TaskServiceClient
	Events      v1.EventServiceClient
	Approvals   v1.ApprovalServiceClient
	Checkpoints v1.CheckpointServiceClient
	Artifacts   v1.ArtifactServiceClient
	Server      v1.ServerServiceClient

	connections *connections
	// Connection that retries a call with a temporary error until the deadline of the call.
	retrying retryConn
	// Connection that makes each call once. Leases and subscriptions, which retry failed calls themselves, use this
	// connection.
	single singleCallConn
	// Function that ends the context `single.lifetime`.
	endLifetime context.CancelFunc
}

// Option changes a default setting of [Connect].
type Option func(*settings)

type settings struct {
	deadline    time.Duration
	dialOptions []grpc.DialOption
}

// WithDeadline sets the time limit for a call and all its retries. The default is 30 s. The client adds the request's
// `wait` to this limit. If the call's context has an earlier deadline, the call ends at the earlier deadline.
func WithDeadline(deadline time.Duration) Option {
	return func(settings *settings) { settings.deadline = deadline }
}

// WithDialOptions adds gRPC dial options, which override the client's own dial options. The client opens each of its
// connections with these dial options. gRPC calls an interceptor for the first call and for each retry.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(settings *settings) { settings.dialOptions = append(settings.dialOptions, options...) }
}

// Connect returns a client of the server at HOST:PORT, http://HOST:PORT or unix:PATH. The client connects at the first
// call. If a connection breaks, the client reconnects. Connect fails with [ErrAddress] if the address has none of
// these forms, and with gRPC's error if a dial option is not valid.
func Connect(server string, options ...Option) (*Client, error) {
	settings := settings{deadline: defaultDeadline}
	for _, option := range options {
		option(&settings)
	}
	connections, err := newConnections(func() (*grpc.ClientConn, error) { return dial(server, settings.dialOptions) })
	if err != nil {
		return nil, err
	}
	lifetime, endLifetime := context.WithCancel(context.Background())
	single := singleCallConn{connections: connections, lifetime: lifetime}
	retrying := retryConn{singleCallConn: single, deadline: settings.deadline}
	return &Client{
		Runs:        v1.NewRunServiceClient(retrying),
		Agents:      v1.NewAgentServiceClient(retrying),
		Tasks:       v1.NewTaskServiceClient(retrying),
		Events:      v1.NewEventServiceClient(retrying),
		Approvals:   v1.NewApprovalServiceClient(retrying),
		Checkpoints: v1.NewCheckpointServiceClient(retrying),
		Artifacts:   v1.NewArtifactServiceClient(retrying),
		Server:      v1.NewServerServiceClient(retrying),
		connections: connections,
		retrying:    retrying,
		single:      single,
		endLifetime: endLifetime,
	}, nil
}

// Conn returns an interface to the client's connections, for stubs from other code generators. Calls through this
// interface have the same deadline, retries and errors as the calls of the client's services, and use the same
// connections.
func (c *Client) Conn() grpc.ClientConnInterface {
	return c.retrying
}

// Close closes all connections of the client. All running and later calls and subscriptions then fail with [ErrClosed].
// Each lease that the client renews is lost with the cause [Unanswered]. Close fails if the client is already closed.
func (c *Client) Close() error {
	c.endLifetime()
	return c.connections.close()
}
