package runhub

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// ErrAddress is what [Connect] says of an address that is none.
var ErrAddress = errors.New("no address of a server: it takes HOST:PORT, http://HOST:PORT or unix:PATH")

const (
	// As much as a snapshot may have.
	maxResponseBytes = 16 << 20
	// How much of a stream is taken ahead of its reader.
	streamWindow = 1 << 20
	// The same of all streams of a connection, so that one nobody reads doesn't hold up the calls beside it.
	connectionWindow = 16 << 20

	connectTimeout = 5 * time.Second
	// How soon a server that is gone without a word is noticed.
	keepaliveInterval = 20 * time.Second
	keepaliveTimeout  = 10 * time.Second
)

// gRPC's own delays go up to two minutes. A server that is back should be found by the next try, so they are shorter
// than those between tries.
var reconnect = backoff.Config{BaseDelay: firstDelay, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second}

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

// target is the address as gRPC takes it. Passed through, a name is looked up at each connect, by the dialer.
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
