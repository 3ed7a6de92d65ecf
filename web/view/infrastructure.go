package view

import "time"

// Infrastructure is the page of sites and of the vault, with a picture of both.
type Infrastructure struct {
	Now    time.Time
	Map    Map
	Sites  []SiteCard
	Vault  VaultCard
	Kept   KeptCard
	CanAdd bool
	Empty  Empty
}

// SiteCard is a place where machines run.
type SiteCard struct {
	Name, Kind, Address string
	State               Badge
	Emulated            bool
	Seen                time.Time
	Facts               []Fact
	Problem             *Finding
	Networks            []string
	Remove              *Action
	Trust               *Action // confirm who answers
}

// VaultCard says how full the vault is.
type VaultCard struct {
	Facts   []Fact
	Percent int
	Known   bool
	Text    string
	Tone    Tone
	Problem string
	Scrub   []Fact
	Rot     []Finding
	CanRead bool // let it read itself again now

	CanConfirm bool // the clock, which is ahead of the trusted time
}

// KeptCard lists what the vault keeps of machines that are not protected. Without rows and
// without a problem it is not shown.
type KeptCard struct {
	Problem string
	Rows    []KeptRow
}

func (c KeptCard) shown() bool { return c.Problem != "" || len(c.Rows) > 0 }

// KeptRow is a machine that is not protected, and of which the vault keeps points.
type KeptRow struct {
	Name, ID, Disks string
	Since           time.Time // zero: not known
	Points, Stored  string
	Newest          time.Time
	State           []Badge
	Erase           *Action
}

// SiteForm adds a site.
type SiteForm struct {
	Name, Kind, Address string
	Kinds               []Choice
	Problem             *Message
	Peer                *PeerAsk // who answers there and has to be confirmed
}
