package sigv4

import (
	"net/http"
	"net/netip"
	"strings"
)

// ForwardedHosts is a Config.Hosts for servers behind proxies: requests that
// come straight from a trusted address may name the host their client signed in
// X-Forwarded-Host, with its port there or in X-Forwarded-Port. From any other
// address the headers mean nothing: whoever sent them could choose which host a
// stolen signature is for.
func ForwardedHosts(trusted ...netip.Prefix) func(*http.Request) []string {
	return func(r *http.Request) []string {
		if !isTrusted(r.RemoteAddr, trusted) {
			return nil
		}
		var hosts []string
		for _, list := range r.Header["X-Forwarded-Host"] {
			for host := range strings.SplitSeq(list, ",") {
				hosts = append(hosts, withForwardedPort(strings.TrimSpace(host), r.Header.Get("X-Forwarded-Port"))...)
				if len(hosts) >= hostsMax {
					return hosts
				}
			}
		}
		return hosts
	}
}

func isTrusted(remote string, trusted []netip.Prefix) bool {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	address := from.Addr().Unmap().WithZone("")
	for _, prefix := range trusted {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// withForwardedPort gives a host as it is and, where the proxy tells the port
// apart from it, with that port.
func withForwardedPort(host, port string) []string {
	switch {
	case host == "":
		return nil
	case port == "" || hasPort(host):
		return []string{host}
	}
	return []string{host, host + ":" + port}
}

// hasPort tells "host:port" and "[::1]:port" from "host" and "[::1]".
func hasPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}
