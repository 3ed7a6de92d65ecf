//go:build !linux && !windows

package main

import (
	"fmt"
	"runtime"
)

func takeInventory(string) (Inventory, error) {
	return Inventory{}, fmt.Errorf("the agent knows Linux and Windows, not %s", runtime.GOOS)
}
