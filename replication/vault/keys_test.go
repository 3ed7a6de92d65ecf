package vault

import (
	"crypto/rand"
	"fmt"
	"os"
	"testing"

	"riparo/replication"
)

// masterKeys are master keys in memory; the last one wraps. A key is made from its
// name, so that the same name is the same key everywhere.
type masterKeys []string

func (m masterKeys) secret(name string) []byte {
	key := make([]byte, keyBytes)
	copy(key, name)
	return key
}

func (m masterKeys) Master() string { return m[len(m)-1] }

func (m masterKeys) Holds(name string) bool {
	for _, n := range m {
		if n == name {
			return true
		}
	}
	return false
}

func (m masterKeys) Wrap(key, label []byte) ([]byte, error) {
	return wrap(rand.Reader, m.secret(m.Master()), key, label)
}

func (m masterKeys) Unwrap(name string, wrapped, label []byte) ([]byte, error) {
	if !m.Holds(name) {
		return nil, fmt.Errorf("there is no master key %s", name)
	}
	return unwrap(m.secret(name), wrapped, label)
}

// keyed adds to options what a vault needs: keys, unless it is to be plain. The
// environment variable RIPARO_PLAIN=1 runs the tests of this package without
// encryption.
func keyed(o Options) Options {
	if os.Getenv("RIPARO_PLAIN") != "" {
		o.Plain, o.Keys = true, nil
	}
	if !o.Plain && o.Keys == nil {
		o.Keys = masterKeys{"first"}
	}
	return o
}

// sealedOnly skips what has no meaning without encryption.
func sealedOnly(t testing.TB) {
	if os.Getenv("RIPARO_PLAIN") != "" {
		t.Skip("RIPARO_PLAIN asks for vaults without encryption")
	}
}

// sealerFor gives what the blocks of a disk that exists only in a test are sealed with.
func sealerFor(t testing.TB) *sealer {
	t.Helper()
	v := &Vault{session: 1}
	v.keys = &vaultKeys{vault: v}
	k := v.keys.ofDisk(replication.DiskID("d"), "")
	if err := k.use(1, make([]byte, keyBytes)); err != nil {
		t.Fatal(err)
	}
	if err := k.sealWith(1); err != nil {
		t.Fatal(err)
	}
	return k.seals
}
