package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine says where and with what it was measured: a figure without that is worth
// nothing.
type machine struct {
	Date       string   `json:"date"`
	Processor  string   `json:"processor"`
	Cores      int      `json:"cores"`
	Memory     string   `json:"memory"`
	System     string   `json:"system"`
	FileSystem string   `json:"file_system"`
	Riparo     string   `json:"riparo"`
	Peers      []string `json:"peers"`
}

// versions tell the version of each peer, on the first line or so of what it prints.
var versions = []string{
	"restic version", "borg --version", "rsync --version", "qemu-img --version", "nbdcopy --version", "lz4 --version", "zstd --version", "cp --version",
}

func describeMachine(dir string) machine {
	m := machine{Date: time.Now().UTC().Format(time.DateOnly), Cores: runtime.NumCPU()}
	m.Processor = fieldOf("/proc/cpuinfo", "model name")
	m.Memory = fieldOf("/proc/meminfo", "MemTotal")
	m.System = said("uname", "-sr")
	if lines := strings.Split(said("df", "--output=fstype", dir), "\n"); len(lines) > 1 {
		m.FileSystem = strings.TrimSpace(lines[1])
	}
	m.Riparo = said("dist/riparo", "version")
	for _, v := range versions {
		words := strings.Fields(v)
		if _, err := exec.LookPath(words[0]); err != nil {
			continue
		}
		line, _, _ := strings.Cut(said(words[0], words[1:]...), "\n")
		m.Peers = append(m.Peers, strings.Join(strings.Fields(strings.Trim(line, "* ")), " "))
	}
	return m
}

// said is what a program prints; nothing if it cannot be run.
func said(program string, arguments ...string) string {
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// fieldOf finds "name : value" in a file of the kernel.
func fieldOf(path, name string) string {
	p, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(p)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
