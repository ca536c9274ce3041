package websocket

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxHost is the most bytes of a host with its port.
const maxHost = 255

// parseURL parses the URL of a hub. host is what both sides sign; see canonicalHost.
func parseURL(s string) (u *url.URL, host string, err error) {
	fail := func(cause error) (*url.URL, string, error) {
		return nil, "", fmt.Errorf("%w: %q: %w", ErrAddr, s, cause)
	}
	u, err = url.Parse(s)
	switch {
	case err != nil:
		return fail(errors.Unwrap(err)) // without s, which fail adds
	case u.Scheme != "ws" && u.Scheme != "wss":
		return fail(errors.New("want wss://HOST[:PORT]/PATH"))
	case u.User != nil || u.Fragment != "" || strings.Contains(s, ","):
		return fail(errors.New("a hub's URL has no user, no fragment and no comma"))
	}
	if host, err = canonicalHost(u); err != nil {
		return fail(err)
	}
	if u.Scheme == "ws" && !isLoopback(u.Hostname()) {
		return fail(errors.New("without TLS, the loopback alone may be dialled: localhost, 127.0.0.1 or [::1]"))
	}
	return u, host, nil
}

// canonicalHost returns the host of a URL in the form of a browser's URL.host: lower case, IPv6
// short and in brackets, with the port if that is not the scheme's own.
func canonicalHost(u *url.URL) (string, error) {
	name := strings.ToLower(u.Hostname())
	if ip, err := netip.ParseAddr(name); err == nil && ip.Is6() {
		if ip.Is4In6() || ip.Zone() != "" {
			return "", errors.New("an IPv6 address with an IPv4 one or a zone in it")
		}
		name = "[" + ip.String() + "]"
	} else if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return "", errors.New("a host is ASCII letters, digits, dots and hyphens; write other names in their xn-- form")
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return "", errors.New("bad port")
		}
		if n != uint64(defaultPort(u.Scheme)) {
			name += ":" + strconv.FormatUint(n, 10)
		}
	}
	if len(name) > maxHost {
		return "", errors.New("the host is too long")
	}
	return name, nil
}

func defaultPort(scheme string) int {
	if scheme == "ws" || scheme == "http" {
		return 80
	}
	return 443
}

// isLoopback reports whether a name stands for this machine. Where localhost leads is checked
// when it is dialled.
func isLoopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && ip.IsLoopback()
}

// subprotocol returns the ALPN as a subprotocol, in which browsers take no slash.
func subprotocol(alpn string) (string, error) {
	name := strings.ReplaceAll(alpn, "/", ".")
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"[]?={}`, c) >= 0 {
			return "", fmt.Errorf(prefix+"Options.ALPN: %q cannot be the name of a subprotocol", alpn)
		}
	}
	if len(name) > 255 {
		return "", errors.New(prefix + "Options.ALPN is longer than 255 bytes")
	}
	return name, nil
}
