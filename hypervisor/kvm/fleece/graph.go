package fleece

import (
	"context"
	"fmt"
	"slices"
)

// node is a block node as query-named-block-nodes tells of it.
type node struct {
	Name    string   `json:"node-name"`
	Driver  string   `json:"drv"`
	Bitmaps []bitmap `json:"dirty-bitmaps"`
	Image   struct {
		Size     int64 `json:"virtual-size"`
		Specific struct {
			Data struct {
				Compat string `json:"compat"`
			} `json:"data"`
		} `json:"format-specific"`
	} `json:"image"`
}

// persistent reports whether the node's format keeps bitmaps when QEMU ends.
func (n node) persistent() bool {
	return n.Driver == "qcow2" && n.Image.Specific.Data.Compat != "0.10"
}

// bitmap is a dirty bitmap as QEMU tells of it.
type bitmap struct {
	Name         string `json:"name"`
	Recording    bool   `json:"recording"`
	Busy         bool   `json:"busy"`
	Persistent   bool   `json:"persistent"`
	Inconsistent bool   `json:"inconsistent"`
	Count        int64  `json:"count"` // dirty bytes
}

// graph is what a QEMU's block layer looks like.
type graph struct {
	nodes map[string]node
	// under is, for each device, the chain of nodes from the one it uses downward.
	under map[string][]string
	// all are, for each device, the nodes that it uses, images below among them.
	all map[string][]string
}

// readGraph asks QEMU for its nodes and what the devices use; see [Nodes] for when it may.
func readGraph(ctx context.Context, monitor Monitor) (*graph, error) {
	var nodes []node
	if err := Nodes(ctx, monitor, true, &nodes); err != nil {
		return nil, err
	}
	g := &graph{nodes: map[string]node{}, under: map[string][]string{}, all: map[string][]string{}}
	for _, n := range nodes {
		g.nodes[n.Name] = n
	}
	type statistics struct {
		Device string      `json:"qdev"`
		Node   string      `json:"node-name"`
		Parent *statistics `json:"parent"` // QEMU's word for the node below
		// Backing is the image that an overlay stands on.
		Backing *statistics `json:"backing"`
	}
	var devices []statistics
	if err := monitor.Execute(ctx, "query-blockstats", nil, &devices); err != nil {
		return nil, err
	}
	for _, d := range devices {
		for s := &d; s != nil; s = s.Parent {
			g.under[d.Device] = append(g.under[d.Device], s.Node)
		}
		for todo := []*statistics{&d}; len(todo) > 0; todo = todo[1:] {
			if s := todo[0]; s != nil {
				g.all[d.Device] = append(g.all[d.Device], s.Node)
				todo = append(todo, s.Parent, s.Backing)
			}
		}
	}
	return g, nil
}

// nodeBelow is a node under a disk's device, other than the disk's own, that has a bitmap
// of a name; empty for none.
func (g *graph) nodeBelow(d Disk, name string) string {
	for _, other := range g.all[d.Device] {
		if other != d.Node && slices.ContainsFunc(g.nodes[other].Bitmaps, func(b bitmap) bool { return b.Name == name }) {
			return other
		}
	}
	return ""
}

// hasWindow reports whether a capture of a machine that runs is or was open.
func (g *graph) hasWindow() bool {
	for name := range g.nodes {
		if _, ok := keyOf(name, windowNode); ok {
			return true
		}
	}
	return false
}

// resolve finds the node that holds the data of each disk, below whatever a capture
// put above it.
func (g *graph) resolve(machine string, disks []Disk) ([]Disk, error) {
	resolved := make([]Disk, len(disks))
	for i, d := range disks {
		if d.Node == "" {
			for _, name := range g.under[d.Device] {
				if !isCaptureNode(name) {
					d.Node = name
					break
				}
			}
		}
		if _, ok := g.nodes[d.Node]; !ok {
			return nil, fmt.Errorf("machine %s: QEMU has no block node for disk %s (device %q)", machine, d.Key, d.Device)
		}
		resolved[i] = d
	}
	return resolved, nil
}

// args are the arguments of a command.
type args = map[string]any

// action is one action of a transaction.
func action(kind string, data args) args { return args{"type": kind, "data": data} }

// transaction runs actions as one: all or none.
func transaction(ctx context.Context, monitor Monitor, actions []args) error {
	if len(actions) == 0 {
		return nil
	}
	return monitor.Execute(ctx, "transaction", args{"actions": actions}, nil)
}
