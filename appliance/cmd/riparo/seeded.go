package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// seeds is the flag --seeded, which may be repeated: images that disks are filled from, by
// the key of the disk.
type seeds map[string]string

// Set implements pflag.Value.
func (s *seeds) Set(word string) error {
	disk, file, ok := strings.Cut(word, "=")
	if !ok || disk == "" || file == "" {
		return fmt.Errorf("want DISK=FILE, as vda=web01-vda.raw")
	}
	if other, there := (*s)[disk]; there {
		return fmt.Errorf("disk %s is filled from %s already: want one image for each", disk, other)
	}
	if *s == nil {
		*s = seeds{}
	}
	(*s)[disk] = file
	return nil
}

// Type implements pflag.Value.
func (s *seeds) Type() string { return "DISK=FILE" }

// String implements pflag.Value.
func (s *seeds) String() string {
	var words []string
	for _, disk := range slices.Sorted(maps.Keys(*s)) {
		words = append(words, disk+"="+(*s)[disk])
	}
	return strings.Join(words, ",")
}
