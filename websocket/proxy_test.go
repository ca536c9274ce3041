package websocket

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"irohub"
)

// Certificate returns the certificate of the tests' servers, and a configuration that trusts
// it. It is the same in each process, so that the children of the siege trust it too. Its key
// is not RSA, whose signatures would take most of the time of some tests.
var Certificate = sync.OnceValues(func() (tls.Certificate, *tls.Config) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}, &tls.Config{RootCAs: pool}
})

// A Proxy is a running nginx with TLS. It passes requests for /PORT/PATH to PATH of the plain
// HTTP server at that port.
type Proxy struct{ address string }

// nginxConfig is for the working directory. It has the settings that nginx's documentation
// gives for WebSocket. The proxy closes connections that are idle for the given time; nginx
// itself would wait for 60 s.
const nginxConfig = `
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %s ssl;
		ssl_certificate certificate.pem;
		ssl_certificate_key key.pem;
		location ~ ^/(?<backend>[0-9]+)/ {
			rewrite ^/[0-9]+(/.*)$ $1 break;
			proxy_pass http://127.0.0.1:$backend;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_buffering on;
			proxy_read_timeout %dms;
			proxy_send_timeout %dms;
		}
	}
}
`

// StartProxy starts nginx, which ends with the test.
func StartProxy(t testing.TB, idle time.Duration) *Proxy {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx, err = exec.LookPath("/usr/sbin/nginx") // where Debian has it, and not every PATH
	}
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatalf("nginx is missing; install it, on Debian as nginx-light (%v)", err)
	case err != nil:
		t.Skipf("nginx is missing; install it, on Debian as nginx-light (%v)", err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	write := func(name string, text []byte) { must(os.WriteFile(filepath.Join(dir, name), text, 0o600)) }
	certificate, _ := Certificate()
	private, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	must(err)
	write("certificate.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}))
	write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	for range 10 { // another program may take the port that was free
		l := listenTest(t)
		address := l.Addr().String()
		l.Close()
		write("nginx.conf", fmt.Appendf(nil, nginxConfig, address, idle.Milliseconds(), idle.Milliseconds()))
		if output := startNginx(t, exec.Command(nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr"), address); output != "" {
			t.Logf("nginx has ended:\n%s", output)
			continue
		}
		return &Proxy{address}
	}
	t.Fatal("nginx does not start")
	return nil
}

// startNginx returns once nginx accepts connections, or else what it printed before it ended.
func startNginx(t testing.TB, cmd *exec.Cmd, address string) (output string) {
	t.Helper()
	var printed bytes.Buffer
	cmd.Stderr = &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("nginx printed:\n%s", &printed)
		}
	})
	for {
		select {
		case <-ended:
			return "It printed: " + printed.String()
		default:
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return ""
		}
		time.Sleep(time.Millisecond)
	}
}

// URL returns the URL that leads to a path of the server at an address.
func (p *Proxy) URL(server net.Addr, path string) string {
	return fmt.Sprintf("wss://%s/%d%s", p.address, server.(*net.TCPAddr).Port, path)
}

// A quiet connection outlives a proxy that closes idle ones. The hub's beat is to the proxy's
// limit as the real beat is to the usual 60 s. How long that takes is measured by connections
// without pings, which the proxy does close.
func TestProxy_QuietConnectionsStayOpen(t *testing.T) {
	proxy := StartProxy(t, 3*time.Second)
	_, trusting := Certificate()
	quiet := func(beat time.Duration) (dialled, accepted irohub.Conn) {
		hub := serveBehind(t, proxy)
		hub.beat = beat
		return connect(t, newTest(t, Options{TLS: trusting}), hub)
	}
	dialled, accepted := quiet(500 * time.Millisecond)
	for range 2 {
		unpinged, _ := quiet(time.Hour)
		if err := unpinged.Wait(testContext(t)); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("a connection without pings: %v, want one that the proxy has closed", err)
		}
	}
	s, _ := openStream(t, dialled, accepted)
	if err := s.CloseWrite(testContext(t)); err != nil {
		t.Error(err)
	}
}
