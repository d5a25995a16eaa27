package runhub

import (
	"errors"
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

// ErrAddress is the error of [Connect] if the address has none of the valid forms.
var ErrAddress = errors.New("not a valid server address: use HOST:PORT, http://HOST:PORT or unix:PATH")

const (
	// The largest answer is a snapshot.
	maxResponseBytes = 16 << 20
	// How many bytes of a stream the client buffers before the reader takes them.
	streamWindow = 1 << 20
	// How many bytes of all streams of a connection the client buffers. It is larger than streamWindow, because a stream
	// that nobody reads would otherwise block the calls on the same connection.
	connectionWindow = 16 << 20

	connectTimeout = 5 * time.Second
	// How often the connection is checked, so that a server that has disappeared is noticed.
	keepaliveInterval = 20 * time.Second
	// How long the client waits for the answer to a check.
	keepaliveTimeout = 10 * time.Second
)

// The delays between gRPC's attempts to connect. gRPC's default goes up to two minutes. These delays are shorter than those
// between the tries of a call, so that the next try finds a server that has returned.
var reconnect = grpcbackoff.Config{BaseDelay: firstDelay, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second}

// dial makes a connection that is opened by the first call. It fails if the address or an option is not valid.
func dial(server string, options []grpc.DialOption) (*grpc.ClientConn, error) {
	target, err := target(server)
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

// target returns gRPC's name for the address. It fails with ErrAddress if the address has none of the valid forms. With the
// scheme passthrough, the dialer resolves the host name at each connect.
func target(server string) (string, error) {
	if path, ok := strings.CutPrefix(server, "unix:"); ok && path != "" {
		return server, nil
	}
	address := strings.TrimSuffix(strings.TrimPrefix(server, "http://"), "/")
	host, port, err := net.SplitHostPort(address)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || strings.Contains(host, "/") {
		return "", fmt.Errorf("%q is %w", server, ErrAddress)
	}
	return "passthrough:///" + address, nil
}
