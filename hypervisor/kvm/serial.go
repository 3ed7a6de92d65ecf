package kvm

import (
	"crypto/sha256"
	"encoding/base32"
)

// Serial is the serial number of a machine's disk as its guest sees it, derived from
// the machine's owner and the disk's key. Example: "RP-5K2BPRRDQ6W4MXOT".
func Serial(owner, key string) string {
	sum := sha256.Sum256([]byte(owner + "\x00" + key))
	return "RP-" + base32.StdEncoding.EncodeToString(sum[:10])
}
