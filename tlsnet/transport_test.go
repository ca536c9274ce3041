package tlsnet_test

import (
	"testing"

	"irohub"
	"irohub/internal/transporttest"
	"irohub/key"
	"irohub/tlsnet"
)

func TestTransport(t *testing.T) { transporttest.Run(t, bind) }

func BenchmarkHub(b *testing.B) { transporttest.Bench(b, bind) }

var keys = map[transporttest.Key]key.Secret{1: key.New()}

func bind(t testing.TB, k transporttest.Key) irohub.Endpoint {
	ep, err := tlsnet.Bind(t.Context(), tlsnet.Options{Addr: "127.0.0.1:0", SecretKey: keys[k]})
	if err != nil {
		t.Fatal(err)
	}
	return ep
}
