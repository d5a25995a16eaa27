package runhub

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// openHeldCalls is a number of held calls and streams that one connection can't carry, because the number is larger
// than streamsPerConnection.
const openHeldCalls = 1100

// holdCall makes a held call or opens a stream.
type holdCall func(context.Context, *Client) error

func openStream(ctx context.Context, client *Client) error {
	_, err := client.Events.SubscribeEvents(ctx, &v1.SubscribeEventsRequest{})
	return err
}

func claimWithWait(ctx context.Context, client *Client) error {
	return claimThrough(ctx, client.Tasks)
}

func claimWithWaitOfOtherStub(ctx context.Context, client *Client) error {
	return claimThrough(ctx, v1.NewTaskServiceClient(client.Conn()))
}

func claimThrough(ctx context.Context, tasks v1.TaskServiceClient) error {
	_, err := tasks.ClaimTask(ctx, &v1.ClaimTaskRequest{Wait: durationpb.New(time.Minute)})
	return err
}

// checkImmediateCall makes a unary call without a `wait` and checks that the server answers the call immediately.
func checkImmediateCall(t *testing.T, client *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	_, err := client.Server.GetServerInfo(ctx, &v1.GetServerInfoRequest{})
	if took := time.Since(began); err != nil || took != 0 {
		t.Errorf("the call ended after %v: %v", took, err)
	}
}

func checkOpenConnections(t *testing.T, server *fakeServer, want int32) {
	t.Helper()
	if open := server.open.Load(); open != want {
		t.Errorf("the client has %d open connections, but must have %d", open, want)
	}
}

// sendMoreThanTheWindow is a handler that sends a message for which the window of the stream has no room. The handler
// then sends nothing until the client closes the stream.
func sendMoreThanTheWindow(call int, stream grpc.ServerStreamingServer[update]) error {
	large := &v1.Event{Message: strings.Repeat("x", streamWindow)}
	if err := stream.Send(&update{Message: &v1.SubscribeEventsResponse_Event{Event: large}}); err != nil {
		return err
	}
	return neverAnswer(stream.Context(), call)
}

func TestCallIsAnsweredWhileTheClientHolds1100Calls(t *testing.T) {
	tests := map[string]struct {
		hold      holdCall
		subscribe func(int, grpc.ServerStreamingServer[update]) error
	}{
		"idle streams":                      {openStream, sendScripts()},
		"unread streams with full windows":  {openStream, sendMoreThanTheWindow},
		"calls with a wait":                 {claimWithWait, nil},
		"calls with a wait of another stub": {claimWithWaitOfOtherStub, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &fakeServer{claim: neverAnswer, subscribe: test.subscribe}
				client := server.serve(t)
				for range openHeldCalls {
					go func() { _ = test.hold(t.Context(), client) }()
				}
				synctest.Wait()
				if received := len(server.claims) + len(server.subscribed); received != openHeldCalls {
					t.Errorf("the server has received %d calls, but must receive %d", received, openHeldCalls)
				}
				checkImmediateCall(t, client)
				checkOpenConnections(t, server, 1+openHeldCalls/slotsPerConnection)
			})
		})
	}
}

func TestEndedHeldCallsReleaseTheirSlots(t *testing.T) {
	refused := refusal(codes.NotFound, TaskNotFound)
	tests := map[string]struct {
		server *fakeServer
		hold   holdCall
	}{
		"the server ends the stream":    {&fakeServer{subscribe: endStream}, readStreamToEnd},
		"the caller cancels the stream": {&fakeServer{subscribe: sendScripts()}, cancelStream},
		"the server answers the call":   {&fakeServer{claim: alwaysReturn(nil)}, claimWithWait},
		"the server refuses the call":   {&fakeServer{claim: alwaysReturn(refused)}, failingClaim},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := test.server.serve(t)
				checkImmediateCall(t, client)
				for range 1000 {
					if err := test.hold(t.Context(), client); err != nil {
						t.Fatal(err)
					}
				}
				checkOpenConnections(t, test.server, 2)
				if opened := test.server.opened.Load(); opened != 2 {
					t.Errorf("the client has opened %d connections, but must open 2", opened)
				}
			})
		})
	}
}

// endStream is a handler that ends each stream without a message.
func endStream(int, grpc.ServerStreamingServer[update]) error {
	return nil
}

func readStreamToEnd(ctx context.Context, client *Client) error {
	stream, err := client.Events.SubscribeEvents(ctx, &v1.SubscribeEventsRequest{})
	if err != nil {
		return err
	}
	if _, err = stream.Recv(); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func cancelStream(ctx context.Context, client *Client) error {
	ctx, cancel := context.WithCancel(ctx)
	err := openStream(ctx, client)
	cancel()
	synctest.Wait()
	return err
}

func failingClaim(ctx context.Context, client *Client) error {
	if err := claimWithWait(ctx, client); !errors.Is(err, TaskNotFound) {
		return err
	}
	return nil
}

func TestStreamThatCannotBeOpenedReleasesItsSlotOnce(t *testing.T) {
	failure := errors.New("the interceptor of the test has failed")
	failBeforeGRPC := func(
		context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		return nil, failure
	}
	tests := map[string]Option{
		"ended context":       WithDialOptions(),
		"failing interceptor": WithDialOptions(grpc.WithStreamInterceptor(failBeforeGRPC)),
	}
	for name, option := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := (&fakeServer{subscribe: sendScripts()}).serve(t, option)
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				for range 1000 {
					if err := openStream(ctx, client); err == nil {
						t.Fatal("the stream was opened")
					}
				}
				if pool := client.connections.pool; len(pool) != 1 || pool[0].takenSlots != 0 {
					t.Error(len(pool), pool[0].takenSlots)
				}
			})
		})
	}
}

func TestCloseClosesAllConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &fakeServer{claim: neverAnswer, subscribe: sendScripts()}
		client := server.serve(t)
		checkImmediateCall(t, client)
		failures := make(chan error, 150)
		for range cap(failures) {
			go func() { failures <- claimWithWait(t.Context(), client) }()
		}
		synctest.Wait()
		checkOpenConnections(t, server, 3)
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		for range cap(failures) {
			checkClosed(t, <-failures)
		}
		for _, hold := range []holdCall{openStream, claimWithWait} {
			checkClosed(t, hold(t.Context(), client))
		}
		synctest.Wait()
		checkOpenConnections(t, server, 0)
		if opened := server.opened.Load(); opened != 3 {
			t.Errorf("the client has opened %d connections, but must open 3", opened)
		}
		if client.Close() == nil {
			t.Error("the second Close must fail")
		}
	})
}

func checkClosed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
