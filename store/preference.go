package store

import "time"

// Names of the settings that people change. Each holds the type of its name.
const (
	SettingGeneral = "general" // General
	SettingProxy   = "proxy"   // Proxy
	SettingVault   = "vault"   // VaultPlace
	SettingBackup  = "backup"  // BackupPlan
	SettingSaved   = "saved"   // Saved
	// SettingNames holds a []string: names and addresses that the console is reached
	// under, besides those that the daemon knows of its computer.
	SettingNames = "names"
)

// General is what the appliance is called, and its clock.
type General struct {
	Name string `json:"name,omitempty"`
	// Zone is a name of the time zone database, as in Europe/Rome; empty is UTC.
	Zone string `json:"zone,omitempty"`
	// TimeServer is asked for the time of day to show how far ours is off; empty:
	// none is.
	TimeServer string `json:"time_server,omitempty"`
}

// The ways to the outside.
const (
	ProxyNone   = "none"
	ProxySystem = "system" // as the environment of the daemon says
	ProxyCustom = "custom"
)

// Proxy is how the appliance reaches web services outside.
type Proxy struct {
	Mode string `json:"mode"`
	URL  string `json:"url,omitempty"` // of ProxyCustom
	// Bypass are hosts that are reached directly, separated by commas.
	Bypass string `json:"bypass,omitempty"`
}

// VaultPlace is where the vault is. An empty Path is the folder vault beside the
// state file.
type VaultPlace struct {
	Path string `json:"path,omitempty"`
	// Used is true once the vault was opened there: from then on it must be there,
	// and an empty folder is taken for a disk that is not attached.
	Used bool `json:"used,omitempty"`
}

// BackupPlan is how the appliance saves its own state.
type BackupPlan struct {
	Folder string        `json:"folder,omitempty"`
	Every  time.Duration `json:"every,omitempty"` // 0: only when asked for
	Keep   int           `json:"keep,omitempty"`
	// Recipient seals, and Identity opens, backups: a key pair made with the
	// passphrase, which is kept nowhere. Identity is sealed with it.
	Recipient string `json:"recipient,omitempty"`
	Identity  []byte `json:"identity,omitempty"`
	// Former are the SHA-256 of identities that there were before: what they seal is
	// still the appliance's own.
	Former [][]byte `json:"former,omitempty"`
}

// Saved is the newest backup, and why the last attempt gave none.
type Saved struct {
	Time    time.Time `json:"time,omitzero"`
	File    string    `json:"file,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"`
	Tried   time.Time `json:"tried,omitzero"`
	Problem *Finding  `json:"problem,omitempty"`
}
