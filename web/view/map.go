package view

// Map is the picture of the infrastructure: on the left the sites that machines
// come from, in the middle the appliance, on the right the sites that only take
// over. Boxes are text of the page; only the links between them are drawn, in a
// hundred by a hundred units, so that everything keeps its size at any width.
type Map struct {
	Left, Right []MapSite
	Appliance   MapAppliance
}

// MapSite is a site and its link to the appliance.
type MapSite struct {
	Name, Href, Kind string
	State            Badge
	Sends, Shelters  string // in words; empty: nothing
	Path             string // of its link
	Link             Tone   // the worst of what goes through it
	Flow             Flow
}

// Flow is where data goes through a link just now.
type Flow string

const (
	NoFlow   Flow = ""
	ToRight  Flow = "right"
	ToLeft   Flow = "left"
	BothWays Flow = "both"
)

// MapAppliance is the box in the middle.
type MapAppliance struct {
	Name, Roles string
	Lines       []string
	Tone        Tone
}
