package appliance

import (
	"riparo/appliance/discovery"
	"riparo/appliance/protection"
	"riparo/replication/mastertarget"
	"riparo/replication/vault"
	"riparo/store"
)

// Rooms are the parts of an open appliance, for who looks closer than its verbs
// allow: the demonstration, which judges what the vault holds, and tests.
type Rooms struct {
	Store      *store.Store
	Vault      *vault.Vault
	Protection *protection.Protector
	Sites      *discovery.Sites
	Target     *mastertarget.Target
}

// Rooms gives the parts of the appliance.
func (a *Appliance) Rooms() Rooms {
	return Rooms{Store: a.store, Vault: a.vault, Protection: a.protect, Sites: a.sites, Target: a.target}
}
