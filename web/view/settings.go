package view

import (
	"net/url"
	"time"
)

// Settings is the page that leads to all settings.
type Settings struct {
	Now   time.Time
	Doors []Door
	About []Fact
}

// Door is a page of settings.
type Door struct {
	Href, Icon, Title, Text string
}

func escapeQuery(value string) string { return url.QueryEscape(value) }
