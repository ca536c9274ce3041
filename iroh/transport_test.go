//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh_test

import (
	"testing"

	"irohub"
	"irohub/internal/transporttest"
	"irohub/iroh"
	"irohub/key"
)

func TestTransport(t *testing.T) {
	iroh.NeedLibrary(t)
	transporttest.Run(t, bind)
}

func BenchmarkHub(b *testing.B) {
	transporttest.Bench(b, bind)
}

var keys = map[transporttest.Key]key.Secret{1: key.New()}

func bind(t testing.TB, k transporttest.Key) irohub.Endpoint {
	ep, err := iroh.Bind(t.Context(), iroh.Options{Addr: "127.0.0.1:0", SecretKey: keys[k]})
	if err != nil {
		t.Fatal(err)
	}
	return ep
}
