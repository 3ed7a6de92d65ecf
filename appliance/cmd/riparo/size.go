package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseSize reads "1GiB", "512 MiB", "64k" or a plain number of bytes. All units
// are powers of 1024.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(strings.TrimSpace(text), "iIbB")
	scale := int64(1)
	if n := len(number); n > 0 {
		if unit := strings.IndexByte("KMGT", number[n-1]&^0x20); unit >= 0 {
			number, scale = number[:n-1], 1<<(10*(unit+1))
		}
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || value < 0 || value*float64(scale) > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is not a size: want a number with KiB, MiB, GiB or TiB", text)
	}
	return int64(value * float64(scale)), nil
}
