package runhub

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// ErrAddress is the error that [Connect] returns if the server address is not valid. The text of the returned error also
// contains the address.
var ErrAddress error = addressError{}

type addressError struct{ server string }

// Error returns the address and the valid forms of an address.
func (e addressError) Error() string {
	return fmt.Sprintf("%q is not a valid server address: use HOST:PORT, http://HOST:PORT or unix:PATH", e.server)
}

// Is returns whether the target is ErrAddress, regardless of the address.
func (e addressError) Is(target error) bool {
	return target == ErrAddress
}

const (
	// maxResponseBytes is the maximum size, in bytes, of a response that the client accepts. The largest response
	// contains a snapshot.
	maxResponseBytes = 16 << 20
	// streamWindow is the number of unread bytes that the client buffers for each stream. 1,000 streams that nobody reads
	// therefore buffer at most 250 MiB. gRPC enlarges the window while the caller receives a larger message.
	streamWindow = 256 << 10
	// connectionWindow is the number of bytes that the server may send on a connection before the client acknowledges the
	// bytes. The value is larger than the windows of all streams of a pooled connection together. Streams that nobody
	// reads therefore can't block the other streams of the connection, even if gRPC acknowledged the bytes of a
	// connection only after the caller has read them.
	connectionWindow = 2 * slotsPerConnection * streamWindow

	connectTimeout = 5 * time.Second
	// keepaliveInterval is the time without traffic after which the client sends a keepalive ping. Without pings, the
	// client would not notice that a server has disappeared.
	keepaliveInterval = 20 * time.Second
	// keepaliveTimeout is the time for which the client waits for the acknowledgment of a keepalive ping.
	keepaliveTimeout = 10 * time.Second
)

// reconnect sets the delays between gRPC's attempts to connect. The longest delay is 1 s, shorter than the longest
// delay between two retries of a call (2 s), so that the next retry reaches a restarted server. By default, gRPC waits
// up to two minutes.
var reconnect = grpcbackoff.Config{BaseDelay: firstDelay, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second}

// dial returns a connection that the first call on the connection opens. dial fails if the address or a dial option is
// not valid.
func dial(server string, options []grpc.DialOption) (*grpc.ClientConn, error) {
	target, err := parseAddress(server)
	if err != nil {
		return nil, err
	}
	ours := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveInterval, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connectionWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
	}
	return grpc.NewClient(target, append(ours, options...)...)
}

// parseAddress returns gRPC's target name for the server address, and fails with ErrAddress if the address is not
// valid. The scheme `passthrough` makes the dialer resolve the host name at every connection attempt.
func parseAddress(server string) (string, error) {
	if path, ok := strings.CutPrefix(server, "unix:"); ok && path != "" {
		return server, nil
	}
	address := strings.TrimSuffix(strings.TrimPrefix(server, "http://"), "/")
	host, port, err := net.SplitHostPort(address)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || strings.Contains(host, "/") {
		return "", addressError{server}
	}
	return "passthrough:///" + address, nil
}
