package view

// Ask is the page, or the dialog, that asks back before something is done to a
// machine.
type Ask struct {
	Title  string
	Name   string // of the machine
	Lead   string
	Action string // where the form goes
	Back   string
	// Effects tell what will happen, place by place.
	Effects []Effect
	Picker  *Picker
	// Fields that the verb has.
	Networks   []Choice // nil: none to choose
	NetworkTip string
	SyncFirst  *Check
	KeepPoints *Check
	Notes      string // label; empty: none
	Confirm    string // what to type; empty: nothing
	Submit     string
	Icon       string
	Kind       string // of the button: primary, danger
	Message    *Message
	Other      *Action // instead of this: the planned failover beside the unplanned
}

// Effect is what happens at one place.
type Effect struct {
	Place, Text string
	Icon        string
	Tone        Tone
}

// Check is a box to tick.
type Check struct {
	Label, Tip string
	On         bool
}

// Protect is the page that takes a machine under protection.
type Protect struct {
	Name     string
	Site     string
	Ref      string
	Facts    []Fact
	Message  *Message
	Disks    []DiskChoice
	Targets  []Choice
	Policies []Choice
	Networks []Choice
	BootSign string
	Empty    *Empty // when it cannot be done

	// Images of disks that were brought: the folder for them, and whether something
	// that is in it was chosen or could be.
	SeedFolder string
	SeedText   string
	SeedOpen   bool
}

// DiskChoice is a disk to take along or to leave out.
type DiskChoice struct {
	Key, Size string
	Boot, On  bool
	Seeds     []Choice // images it can be filled from; nil: none fits
}
