package vault

import "testing"

// A vault says by its version which codecs an older program must know.
func TestTheVersionOfAVaultTellsOfItsCodecs(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		base := uint32(plainVersion)
		if sealed {
			base = sealedVersion
		}
		for kind, more := range map[Compression]uint32{LZ4: 0, S2: 2, Zstd: 2, MinLZ: 4} {
			v := &Vault{sealed: sealed, codecs: kind.codec().generation()}
			if got := v.version(); got != base+more {
				t.Errorf("a vault with %s, sealed: %t, has version %d, want %d", kind, sealed, got, base+more)
			}
			again := &Vault{}
			again.learn(v.version())
			if again.sealed != sealed || again.version() != v.version() {
				t.Errorf("version %d was read as sealed: %t, version %d", v.version(), again.sealed, again.version())
			}
		}
	}
}
