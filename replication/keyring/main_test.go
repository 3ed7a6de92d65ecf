package keyring

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	scryptCost = 10 // a guess need not take a second here
	os.Exit(m.Run())
}
