package view

import "time"

// Infrastructure is the page of sites and of the vault, with a picture of both.
type Infrastructure struct {
	Now    time.Time
	Map    Map
	Sites  []SiteCard
	Vault  VaultCard
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

// SiteForm adds a site.
type SiteForm struct {
	Name, Kind, Address string
	Kinds               []Choice
	Problem             *Message
	Peer                *PeerAsk // who answers there and has to be confirmed
}
