package runhub

import (
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// slotsPerConnection is the maximum number of held calls and streams that a connection of the pool carries at a time.
// Each held call and each stream takes one slot. The value is far below the 1,024 open calls and streams that a server
// allows on one connection. A call beyond the server's limit would wait in gRPC until another call ends.
// connectionWindow has room for the unread bytes of slotsPerConnection streams.
const slotsPerConnection = 100

// connections makes calls on the connections of a client. The first connection carries only calls that the server
// answers immediately, so that these calls never wait until a held call or a stream ends. A pool of further connections
// carries the streams and the held calls. A held call is a unary call whose request has a `wait` above 0.
type connections struct {
	first *grpc.ClientConn
	// Function that returns a new connection for the pool.
	open func() (*grpc.ClientConn, error)

	// Mutex that protects the fields below and the fields `takenSlots` of the pooled connections.
	lock     sync.Mutex
	pool     []*pooledConn
	isClosed bool
}

// pooledConn is a connection of the pool. The connection stays in the pool until the client is closed.
type pooledConn struct {
	*grpc.ClientConn
	// Number of held calls and streams that the connection carries now.
	takenSlots int
}

// newConnections returns connections that the first call on each connection opens. newConnections fails if the function
// `open` fails.
func newConnections(open func() (*grpc.ClientConn, error)) (*connections, error) {
	first, err := open()
	if err != nil {
		return nil, err
	}
	return &connections{first: first, open: open}, nil
}

// Invoke makes a unary call on the first connection, or on a connection of the pool if the call is a held call.
func (c *connections) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	request, ok := args.(proto.Message)
	if !ok || requestedWait(request) == 0 {
		return c.first.Invoke(ctx, method, args, reply, options...)
	}
	conn, err := c.acquire()
	if err != nil {
		return err
	}
	defer c.release(conn)
	return conn.Invoke(ctx, method, args, reply, options...)
}

// NewStream opens a stream on a connection of the pool.
func (c *connections) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	conn, err := c.acquire()
	if err != nil {
		return nil, err
	}
	release := sync.OnceFunc(func() { c.release(conn) })
	// The end of the stream's context would also show the end of the stream. But a call of ClientStream.Context disables
	// gRPC's own retry of a stream that the server has not processed.
	onFinish := grpc.OnFinish(func(error) { release() })
	stream, err := conn.NewStream(ctx, desc, method, slices.Concat(options, []grpc.CallOption{onFinish})...)
	if err != nil {
		// If an interceptor fails before gRPC creates the stream, gRPC does not call onFinish.
		release()
	}
	return stream, err
}

// acquire returns the first connection of the pool that has room for a held call or stream. If no connection has room,
// acquire adds a connection to the pool. The caller must release the returned connection when the call or stream ends.
// acquire fails with ErrClosed if the client is closed.
func (c *connections) acquire() (*pooledConn, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.isClosed {
		return nil, closedError()
	}
	for _, conn := range c.pool {
		if conn.takenSlots < slotsPerConnection {
			conn.takenSlots++
			return conn, nil
		}
	}
	conn, err := c.open()
	if err != nil {
		return nil, err
	}
	pooled := &pooledConn{ClientConn: conn, takenSlots: 1}
	c.pool = append(c.pool, pooled)
	return pooled, nil
}

// release releases the slot of an ended call or stream on the connection.
func (c *connections) release(conn *pooledConn) {
	c.lock.Lock()
	defer c.lock.Unlock()
	conn.takenSlots--
}

// close closes all connections. close fails if the connections are already closed.
func (c *connections) close() error {
	err := c.first.Close()
	for _, conn := range c.closePool() {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// closePool closes the pool for further calls and returns the connections of the pool, which the caller must close.
// When a connection is closed, its streams end and release their slots, so the caller must not hold c.lock.
func (c *connections) closePool() []*pooledConn {
	c.lock.Lock()
	defer c.lock.Unlock()
	pool := c.pool
	c.pool, c.isClosed = nil, true
	return pool
}
