package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// definition is a machine as it is stored: machine.json in its folder.
type definition struct {
	Ref       hypervisor.Ref    `json:"ref"`
	Name      string            `json:"name"`
	Owner     string            `json:"owner,omitempty"` // set for machines that Create made
	CPUs      int               `json:"cpus"`
	MemoryMiB int               `json:"memory_mib"`
	OS        string            `json:"os,omitempty"`
	Disks     []diskDefinition  `json:"disks"`
	NICs      []hypervisor.NIC  `json:"nics,omitempty"`
	Private   string            `json:"private_network,omitempty"` // made for this machine alone
	Hardware  map[string]string `json:"hardware,omitempty"`
	Fenced    string            `json:"fenced,omitempty"` // the reason

	Running bool      `json:"running"`
	Booting bool      `json:"booting,omitempty"` // Start has not returned yet
	BootID  string    `json:"boot_id,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Identity and Branch are what the machine found on its disks when it booted
	// and serves; empty when it did not get that far.
	Identity string `json:"identity,omitempty"`
	Branch   uint32 `json:"branch,omitempty"`
	// ShutDown: the guest ended by itself and nothing was written since.
	ShutDown bool `json:"shut_down"`

	// Stamp is a text by chance, another one after each write that follows a look at it.
	Stamp string `json:"stamp,omitempty"`
	// Generation is the current one of change tracking.
	Generation uint32 `json:"generation"`
	// Points are the instants that are remembered: the last generation that
	// belongs to each, by point and disk.
	Points map[replication.PointID]map[string]uint32 `json:"points,omitempty"`
	// Lost says why instants that are not remembered are not.
	Lost string `json:"tracking_lost,omitempty"`
}

type diskDefinition struct {
	Key  string `json:"key"`
	Size int64  `json:"size"`
	Boot bool   `json:"boot,omitempty"`
	// Backing is the NBD URI of what the overlay does not hold yet.
	Backing string `json:"backing,omitempty"`
}

// clone is a copy whose maps and slices may be changed.
func (d definition) clone() definition {
	d.Disks = slices.Clone(d.Disks)
	d.NICs = slices.Clone(d.NICs)
	d.Hardware = maps.Clone(d.Hardware)
	points := make(map[replication.PointID]map[string]uint32, len(d.Points))
	for id, disks := range d.Points {
		points[id] = maps.Clone(disks)
	}
	d.Points = points
	return d
}

// machine is the definition as the provider reports it.
func (d definition) machine(dir string) hypervisor.Machine {
	m := hypervisor.Machine{
		Ref: d.Ref, Name: d.Name, Power: hypervisor.Stopped, CPUs: d.CPUs, MemoryMiB: d.MemoryMiB,
		OS: d.OS, NICs: slices.Clone(d.NICs), GuestAgent: true, Replica: d.Owner != "", Owner: d.Owner,
		Fenced: d.Fenced != "", Hardware: maps.Clone(d.Hardware),
	}
	if d.Running {
		m.Power, m.BootID, m.Started = hypervisor.Running, d.BootID, d.Started
	}
	for _, disk := range d.Disks {
		format := "raw"
		if disk.Backing != "" {
			format = "overlay"
		}
		m.Disks = append(m.Disks, hypervisor.Disk{Key: disk.Key, Size: disk.Size, Format: format, Path: diskFile(dir, disk.Key), Boot: disk.Boot})
	}
	return m
}

func definitionFile(dir string) string { return filepath.Join(dir, "machine.json") }

func readDefinition(dir string) (definition, error) {
	var d definition
	content, err := os.ReadFile(definitionFile(dir))
	if err != nil {
		return d, fmt.Errorf("open a lab machine: %w", err)
	}
	if err := json.Unmarshal(content, &d); err != nil {
		return d, fmt.Errorf("open the lab machine %s: %w", definitionFile(dir), err)
	}
	return d, nil
}

// writeJSON replaces a file as a whole.
func writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	next := path + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(next))
	}
	return nil
}
