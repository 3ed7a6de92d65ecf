package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Inventory is what the agent finds on its machine.
type Inventory struct {
	Hostname string `json:"hostname"`
	System   string `json:"system"` // "linux 6.1.0-56-cloud-amd64"
	// BootID changes with every start of the machine. What was remembered of
	// changes under another one is worth nothing.
	BootID      string       `json:"boot_id"`
	Disks       []Disk       `json:"disks"`
	FileSystems []FileSystem `json:"file_systems"`
	Tracking    []Tracking   `json:"tracking"`
}

// Disk is a whole disk, not a partition.
type Disk struct {
	Name      string `json:"name"`
	Path      string `json:"path"`
	Size      int64  `json:"size"` // bytes
	Model     string `json:"model,omitempty"`
	Serial    string `json:"serial,omitempty"`
	ReadOnly  bool   `json:"read_only,omitempty"`
	Removable bool   `json:"removable,omitempty"`
	// Virtual: the disk is made of others (a RAID, a logical volume) or of memory
	// or a file. Protecting the disks below it protects it.
	Virtual bool `json:"virtual,omitempty"`
}

// FileSystem is one that is in use and stands on a disk.
type FileSystem struct {
	Mount  string `json:"mount"`
	Type   string `json:"type"`
	Device string `json:"device"`
}

// Tracking is a way to know what changed on the disks.
type Tracking struct {
	Method string `json:"method"`
	// Usable is what the system offers; whether this agent already does it says
	// Built.
	Usable    bool     `json:"usable"`
	Built     bool     `json:"built"`
	Obstacles []string `json:"obstacles,omitempty"`
	Cost      string   `json:"cost"`
}

func (i Inventory) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, boot %s\n\n", i.Hostname, i.System, i.BootID)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "disk\tbytes\tmodel\tremarks")
	for _, d := range i.Disks {
		remarks := ""
		for _, r := range []struct {
			is   bool
			word string
		}{{d.Virtual, "virtual "}, {d.ReadOnly, "read-only "}, {d.Removable, "removable "}} {
			if r.is {
				remarks += r.word
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", d.Path, d.Size, d.Model, remarks)
	}
	fmt.Fprintln(t, "\nmounted at\ttype\ton\t")
	for _, f := range i.FileSystems {
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", f.Mount, f.Type, f.Device)
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, tr := range i.Tracking {
		state := "could be used here"
		if !tr.Usable {
			state = "cannot be used here"
		}
		if !tr.Built {
			state += "; this agent does not do it yet"
		}
		fmt.Fprintf(w, "%s: %s. %s\n", tr.Method, state, tr.Cost)
		for _, o := range tr.Obstacles {
			fmt.Fprintf(w, "  %s\n", o)
		}
	}
}
