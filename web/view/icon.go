package view

import (
	"context"
	"io"

	"github.com/a-h/templ"
)

// icons are drawn for Riparo on a grid of 24 with round strokes of 1.75; each is
// the inside of an svg element.
var icons = map[string]string{
	"overview":       `<path d="M4 13.5a8 8 0 1 1 16 0"/><path d="M12 13.5l3.6-4.2"/><circle cx="12" cy="13.5" r="1.4"/><path d="M4 18.5h16"/>`,
	"machine":        `<rect x="3.5" y="4" width="17" height="6.5" rx="1.8"/><rect x="3.5" y="13.5" width="17" height="6.5" rx="1.8"/><path d="M7 7.25h.01M7 16.75h.01M11 7.25h6M11 16.75h6"/>`,
	"job":            `<path d="M4 6.2l1.4 1.4L8 5"/><path d="M4 12.2l1.4 1.4L8 11"/><path d="M11.5 6.5H20M11.5 12.5H20M11.5 18.5H20"/><circle cx="5.8" cy="18.5" r="1.3"/>`,
	"event":          `<path d="M12 3.5c-3.6 0-5.8 2.7-5.8 6 0 4.6-1.7 5.8-1.7 7h15c0-1.2-1.7-2.4-1.7-7 0-3.3-2.2-6-5.8-6z"/><path d="M10 19.8a2.2 2.2 0 0 0 4 0"/>`,
	"infrastructure": `<rect x="9" y="3.5" width="6" height="5" rx="1.3"/><rect x="3" y="15.5" width="6" height="5" rx="1.3"/><rect x="15" y="15.5" width="6" height="5" rx="1.3"/><path d="M12 8.5V12M6 15.5V12h12v3.5"/>`,
	"policy":         `<path d="M4 7h9M17 7h3M4 17h3M11 17h9"/><circle cx="15" cy="7" r="2"/><circle cx="9" cy="17" r="2"/>`,
	"settings":       `<circle cx="12" cy="12" r="3"/><path d="M12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.2 2.2M16.2 16.2l2.2 2.2M18.4 5.6l-2.2 2.2M7.8 16.2l-2.2 2.2"/>`,
	"help":           `<circle cx="12" cy="12" r="8.5"/><path d="M9.6 9.6a2.4 2.4 0 1 1 3.4 2.2c-.7.3-1 .8-1 1.5v.4"/><path d="M12 16.6h.01"/>`,
	"menu":           `<path d="M4 7h16M4 12h16M4 17h16"/>`,
	"ok":             `<circle cx="12" cy="12" r="8.5"/><path d="M8.4 12.3l2.4 2.4 4.8-5"/>`,
	"check":          `<path d="M5 12.6l4.4 4.4L19 7.4"/>`,
	"warn":           `<path d="M12 4.2L3.4 19h17.2z"/><path d="M12 10v4M12 16.6h.01"/>`,
	"bad":            `<circle cx="12" cy="12" r="8.5"/><path d="M9.2 9.2l5.6 5.6M14.8 9.2l-5.6 5.6"/>`,
	"info":           `<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5M12 8h.01"/>`,
	"wait":           `<circle cx="12" cy="12" r="8.5"/><path d="M12 7.4V12l3 2"/>`,
	"run":            `<path d="M12 3.5a8.5 8.5 0 1 1-8.1 5.9"/>`,
	"none":           `<circle cx="12" cy="12" r="8.5" stroke-dasharray="2.4 3"/>`,
	"pause":          `<circle cx="12" cy="12" r="8.5"/><path d="M10 9v6M14 9v6"/>`,
	"play":           `<path d="M8 5.5v13l10-6.5z"/>`,
	"test":           `<path d="M9.5 3.5h5M10.5 3.5v6L5 18.2a1.6 1.6 0 0 0 1.4 2.3h11.2a1.6 1.6 0 0 0 1.4-2.3L13.5 9.5v-6"/><path d="M7.6 15h8.8"/>`,
	"failover":       `<path d="M4 7.5h11.5a4.5 4.5 0 0 1 0 9H11"/><path d="M14 13.4l-3.2 3.1 3.2 3.1"/><circle cx="4.6" cy="7.5" r=".6"/>`,
	"bolt":           `<path d="M13.2 3.5L5.5 13.6h5.6L10.4 20.5l8.1-10.3h-5.7z"/>`,
	"point":          `<path d="M3.5 12h17"/><circle cx="8" cy="12" r="2"/><circle cx="15.5" cy="12" r="3.2"/>`,
	"commit":         `<path d="M5 12.6l4 4 7.5-8"/><path d="M12.5 16.6l7-7.6"/>`,
	"reverse":        `<path d="M4 8.5h14M14.5 5L18 8.5 14.5 12"/><path d="M20 15.5H6M9.5 12L6 15.5 9.5 19"/>`,
	"back":           `<path d="M9 5.5L4 10.5l5 5"/><path d="M4 10.5h10a6 6 0 0 1 6 6v2"/>`,
	"refresh":        `<path d="M19.5 12a7.5 7.5 0 1 1-2.4-5.5"/><path d="M19.8 3.8v4h-4"/>`,
	"remove":         `<path d="M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.9 12.5h9.2L17.5 7M10.2 10.5v5.5M13.8 10.5v5.5"/>`,
	"clean":          `<path d="M13.5 4l6.5 6.5"/><path d="M11.5 8.5l-7 9.5c2.6 2.4 5.6 3 9 2l3.5-6z"/><path d="M8 19.5l2.4-3"/>`,
	"add":            `<path d="M12 5v14M5 12h14"/>`,
	"close":          `<path d="M6 6l12 12M18 6L6 18"/>`,
	"next":           `<path d="M9 5.5l6.5 6.5L9 18.5"/>`,
	"prior":          `<path d="M15 5.5L8.5 12l6.5 6.5"/>`,
	"to":             `<path d="M4 12h15M13.5 6.5L19 12l-5.5 5.5"/>`,
	"disk":           `<ellipse cx="12" cy="6.5" rx="7.5" ry="2.8"/><path d="M4.5 6.5v11c0 1.5 3.4 2.8 7.5 2.8s7.5-1.3 7.5-2.8v-11"/><path d="M4.5 12c0 1.5 3.4 2.8 7.5 2.8s7.5-1.3 7.5-2.8"/>`,
	"shield":         `<path d="M12 3.5l7 2.6v5.4c0 4.3-2.8 7.3-7 9-4.2-1.7-7-4.7-7-9V6.1z"/><path d="M9 12l2.2 2.2L15.2 10"/>`,
	"network":        `<circle cx="12" cy="12" r="8.5"/><path d="M3.5 12h17M12 3.5c2.6 2.4 3.6 5.2 3.6 8.5s-1 6.1-3.6 8.5c-2.6-2.4-3.6-5.2-3.6-8.5s1-6.1 3.6-8.5z"/>`,
	"key":            `<circle cx="8" cy="15.5" r="4"/><path d="M11 12.6L19.5 4M16 7.6l2.6 2.6M13.4 10.2l1.8 1.8"/>`,
	"user":           `<circle cx="12" cy="8.2" r="3.9"/><path d="M4.5 20c.8-3.8 3.7-6 7.5-6s6.7 2.2 7.5 6"/>`,
	"leave":          `<path d="M13.5 4.5H6.8a1.3 1.3 0 0 0-1.3 1.3v12.4a1.3 1.3 0 0 0 1.3 1.3h6.7"/><path d="M10.5 12H20M16.5 8.5L20 12l-3.5 3.5"/>`,
	"sun":            `<circle cx="12" cy="12" r="3.8"/><path d="M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M18.4 5.6L17 7M7 17l-1.4 1.4"/>`,
	"moon":           `<path d="M19.5 14.2A8 8 0 0 1 9.8 4.5a8 8 0 1 0 9.7 9.7z"/>`,
	"auto":           `<circle cx="12" cy="12" r="8.5"/><path d="M12 3.5v17" /><path d="M12 6.5h4.6M12 10h6.8M12 13.5h7M12 17h5.2"/>`,
	"edit":           `<path d="M4.5 19.5l1-4.2L16 4.8l3.2 3.2L8.7 18.5z"/><path d="M13.6 7.2l3.2 3.2"/>`,
	"lock":           `<rect x="5" y="10.5" width="14" height="9.5" rx="2"/><path d="M8 10.5V8a4 4 0 0 1 8 0v2.5"/>`,
	"log":            `<path d="M6.5 3.5h11a1.5 1.5 0 0 1 1.5 1.5v14a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 5 19V5a1.5 1.5 0 0 1 1.5-1.5z"/><path d="M8.5 8h7M8.5 12h7M8.5 16h4"/>`,
	"report":         `<path d="M4 19.5h16"/><path d="M6.5 16v-4.5M11 16V7M15.5 16v-6.5M20 16V4.5"/>`,
	"print":          `<path d="M7 9V4h10v5M7 16.5H5A1.5 1.5 0 0 1 3.5 15v-4.5A1.5 1.5 0 0 1 5 9h14a1.5 1.5 0 0 1 1.5 1.5V15a1.5 1.5 0 0 1-1.5 1.5h-2"/><path d="M7 14h10v6H7z"/>`,
	"columns":        `<rect x="3.5" y="4.5" width="17" height="15" rx="2"/><path d="M9.2 4.5v15M14.8 4.5v15"/>`,
	"filter":         `<path d="M4 5h16l-6.2 7.4v5.4l-3.6 1.7v-7.1z"/>`,
	"download":       `<path d="M12 4v11M7.5 10.8L12 15.3l4.5-4.5M5 19.5h14"/>`,
	"bundle":         `<path d="M4 8.2l8-4.2 8 4.2v7.6l-8 4.2-8-4.2z"/><path d="M4 8.2l8 4.2 8-4.2M12 12.4V20"/>`,
	"wrap":           `<path d="M4 6h16M4 12h12.5a3.2 3.2 0 0 1 0 6.4H13M4 18h4.5"/><path d="M15.2 15.8L12.6 18.4l2.6 2.6"/>`,
	"copy":           `<rect x="8.5" y="8.5" width="11" height="11" rx="2"/><path d="M15.5 5.5v-.2a1.8 1.8 0 0 0-1.8-1.8H6.3a1.8 1.8 0 0 0-1.8 1.8v7.4a1.8 1.8 0 0 0 1.8 1.8h.2"/>`,
	"unlink":         `<path d="M9.5 14.5l-2.2 2.2a3.3 3.3 0 0 1-4.6-4.6l2.2-2.2M14.5 9.5l2.2-2.2a3.3 3.3 0 0 1 4.6 4.6l-2.2 2.2M8 4.5v2M4.5 8h2M16 19.5v-2M19.5 16h-2"/>`,
}

// icon draws an icon. It says nothing to a screen reader: the word stands beside it.
func icon(name string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, `<svg class="i i-`+name+`" viewBox="0 0 24 24" aria-hidden="true" focusable="false">`+icons[name]+`</svg>`)
		return err
	})
}

// Mark is the sign of Riparo: a shelter over a disk.
func mark() templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, `<svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false"><rect class="mark-a" x="1" y="1" width="30" height="30" rx="8"/><path class="mark-b" d="M7 16.5L16 8l9 8.5"/><ellipse class="mark-c" cx="16" cy="19" rx="5.2" ry="2.1"/><path class="mark-c" d="M10.8 19v3.4c0 1.1 2.3 2.1 5.2 2.1s5.2-1 5.2-2.1V19"/></svg>`)
		return err
	})
}
