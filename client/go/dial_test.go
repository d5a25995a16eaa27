package runhub

import (
	"errors"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

func TestClientConnectsToEachFormOfAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	tcp := listen(t, "tcp", "127.0.0.1:0")
	listen(t, "unix", path)
	for _, address := range []string{tcp, "http://" + tcp, "http://" + tcp + "/", "unix:" + path} {
		client := connect(t, address)
		if _, err := client.Server.GetServerInfo(t.Context(), &v1.GetServerInfoRequest{}); err != nil {
			t.Error(address, err)
		}
	}
}

// listen serves a fake server on a real socket until the test ends, and returns the address of the socket.
func listen(t *testing.T, network, address string) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	(&fakeServer{}).register(server)
	go func() {
		if err := server.Serve(listener); err != nil {
			t.Errorf("the fake server: %v", err)
		}
	}()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func TestInvalidAddressIsAnError(t *testing.T) {
	for _, address := range []string{"", "localhost", ":50051", "host:", "https://host:1", "http://host", "host:1/path", "unix:"} {
		if _, err := Connect(address); !errors.Is(err, ErrAddress) {
			t.Error(address, err)
		}
	}
}

func TestErrorOfInvalidAddressNamesTheAddressAndTheValidForms(t *testing.T) {
	_, err := Connect("localhost")
	want := `"localhost" is not a valid server address: use HOST:PORT, http://HOST:PORT or unix:PATH`
	if err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestIPv6AddressIsValid(t *testing.T) {
	if _, err := Connect("[::1]:50051"); err != nil {
		t.Error(err)
	}
}
