package libvirt

import (
	"context"
	"errors"
	"fmt"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
)

// Networks of a session daemon, which may not make bridges: QEMU's user network, and
// the same with the cable pulled.
const (
	openUser     = "user"
	isolatedUser = "isolated"
)

// Networks lists libvirt's networks, or what a session daemon has.
func (h *Host) Networks(ctx context.Context) ([]hypervisor.Network, error) {
	if h.session() {
		return []hypervisor.Network{{Name: openUser}, {Name: isolatedUser, Isolated: true}}, nil
	}
	list, err := call(ctx, h, func(l *rpc.Libvirt) ([]rpc.Network, error) {
		list, _, err := l.ConnectListAllNetworks(1, 0)
		return list, err
	})
	if err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	var networks []hypervisor.Network
	for _, n := range list {
		text, err := call(ctx, h, func(l *rpc.Libvirt) (string, error) { return l.NetworkGetXMLDesc(n, 0) })
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", n.Name, err)
		}
		var parsed network
		if err := decode(text, &parsed); err != nil {
			return nil, fmt.Errorf("network %s: %w", n.Name, err)
		}
		networks = append(networks, hypervisor.Network{Name: n.Name, Isolated: parsed.isolated()})
	}
	return networks, nil
}

// buildCards gives a domain its network cards and returns the name of the network that
// was made for it, if one was.
func (h *Host) buildCards(ctx context.Context, spec hypervisor.Spec, d *domain) (made string, err error) {
	if spec.Network == "" && !spec.Isolated {
		return "", nil
	}
	card := netCard{Type: "network", Source: &source{Network: spec.Network}, Model: &cardModel{"virtio"}, ROM: &romSwitchOff{"no"}}
	switch {
	case h.session():
		card.Type, card.Source = "user", nil
		if spec.Isolated || spec.Network == isolatedUser {
			card.Link = &link{"down"}
		}
	case spec.Isolated:
		made = "riparo-" + spec.Name
		if err := h.makeNetwork(ctx, made); err != nil {
			return "", fmt.Errorf("make the isolated network: %w", err)
		}
		card.Source = &source{Network: made}
	}
	nics := spec.NICs
	if len(nics) == 0 {
		nics = []hypervisor.NIC{{}}
	}
	for _, nic := range nics {
		one := card
		if nic.MAC != "" {
			one.MAC = &address{nic.MAC}
		}
		d.Devices.Interfaces = append(d.Devices.Interfaces, one)
	}
	return made, nil
}

// makeNetwork makes a network from which nothing can be reached: a bridge without a
// port to anywhere and without an address of this host on it.
func (h *Host) makeNetwork(ctx context.Context, name string) error {
	text, err := encode(&network{Name: name, Bridge: &netBridge{Name: bridgeOf(name), STP: "on"}})
	if err != nil {
		return err
	}
	return do(ctx, h, func(l *rpc.Libvirt) error {
		n, err := l.NetworkLookupByName(name)
		if err != nil {
			if n, err = l.NetworkDefineXML(text); err != nil {
				return err
			}
		}
		if active, err := l.NetworkIsActive(n); err != nil || active != 0 {
			return err
		}
		return l.NetworkCreate(n)
	})
}

func (h *Host) removeNetwork(ctx context.Context, name string) error {
	return do(ctx, h, func(l *rpc.Libvirt) error {
		n, err := l.NetworkLookupByName(name)
		if e, ok := errors.AsType[rpc.Error](err); ok && e.Code == uint32(rpc.ErrNoNetwork) {
			return nil
		}
		if err != nil {
			return err
		}
		if active, err := l.NetworkIsActive(n); err == nil && active != 0 {
			if err := l.NetworkDestroy(n); err != nil {
				return err
			}
		}
		return l.NetworkUndefine(n)
	})
}
