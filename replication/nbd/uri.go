package nbd

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Address is where an export is found.
type Address struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or the path of a socket
	Export  string
	TLS     bool // nbds:// asks for TLS and does not go on without it
}

// ParseURI reads an address as the NBD URI document writes it:
//
//	nbd://host[:port]/export
//	nbd+unix:///export?socket=/path
//
// and the same with nbds for TLS. The export's name is what follows the first
// slash of the path.
func ParseURI(text string) (Address, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Address{}, fmt.Errorf("NBD address %q: %w", text, err)
	}
	a := Address{Export: strings.TrimPrefix(u.Path, "/")}
	if len(a.Export) > maxName {
		return Address{}, fmt.Errorf("NBD address: the export's name has %d bytes: the limit is %d", len(a.Export), maxName)
	}
	switch u.Scheme {
	case "nbd", "nbd+tcp":
		a.Network = "tcp"
	case "nbds", "nbds+tcp":
		a.Network, a.TLS = "tcp", true
	case "nbd+unix":
		a.Network = "unix"
	case "nbds+unix":
		a.Network, a.TLS = "unix", true
	default:
		return Address{}, fmt.Errorf("NBD address %q: want it to begin with nbd://, nbds://, nbd+unix:// or nbds+unix://", text)
	}
	if a.Network == "unix" {
		if a.Address = u.Query().Get("socket"); a.Address == "" {
			return Address{}, fmt.Errorf("NBD address %q: want ?socket=PATH after the export", text)
		}
		if u.Host != "" {
			return Address{}, fmt.Errorf("NBD address %q: a socket has no host; write %s:///%s?socket=PATH", text, u.Scheme, u.Host)
		}
		return a, nil
	}
	port := u.Port()
	if port == "" {
		port = DefaultPort
	}
	if u.Hostname() == "" {
		return Address{}, fmt.Errorf("NBD address %q: want a host", text)
	}
	if strings.Contains(u.Hostname(), ":") {
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			return Address{}, fmt.Errorf("NBD address %q: the host: %w", text, err)
		}
	}
	a.Address = net.JoinHostPort(u.Hostname(), port)
	return a, nil
}

// String is the URI that ParseURI reads.
func (a Address) String() string {
	u := url.URL{Scheme: "nbd", Path: "/" + a.Export}
	if a.TLS {
		u.Scheme = "nbds"
	}
	if a.Network == "unix" {
		u.Scheme += "+unix"
		// A socket's path is readable as it is; only what would end it is escaped.
		u.RawQuery = "socket=" + strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(a.Address))
		u.OmitHost = false
		return u.Scheme + "://" + u.EscapedPath() + "?" + u.RawQuery
	}
	u.Host = a.Address
	return u.String()
}

// URI formats the address of an export for any NBD client:
// URI("unix", "/run/x.sock", "web01.vda") is "nbd+unix:///web01.vda?socket=/run/x.sock".
func URI(network, address, export string) string {
	return Address{Network: network, Address: address, Export: export}.String()
}
