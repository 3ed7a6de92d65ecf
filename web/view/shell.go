package view

// Shell is what stands around a page.
type Shell struct {
	Title string
	// Place is the entry of the navigation that the page belongs to.
	Place   string
	Theme   string // light, dark, auto
	Version string
	// Path is the page's own address, to come back to and to freshen it from.
	Path string
	Live bool   // the page has parts that change
	Now  string // the instant of rendering, RFC 3339

	User, Initials, Role string // empty: nobody is signed in
	Groups               []NavGroup
	Assets               Assets
}

// Assets are the addresses of the embedded files.
type Assets struct{ Style, Script, Icon string }

// NavGroup is a group of entries of the navigation.
type NavGroup struct {
	Title string
	Items []NavItem
}

// NavItem is an entry of the navigation. Place is its identifier.
type NavItem struct {
	Place, Href, Icon, Text string
	Count                   NavCount
}

// NavCount is a figure beside an entry of the navigation.
type NavCount struct {
	Place string
	Text  string // empty: none
	Note  string // what it counts, for those who do not see where it stands
	Hot   bool
}

// OtherLanguages are those that the page is not in, by their own names.
func otherLanguages(current string) []Choice {
	var c []Choice
	for _, l := range Languages {
		c = append(c, Choice{Value: l, Text: languageNames[l], Selected: l == current})
	}
	return c
}

var languageNames = map[string]string{"en": "English", "it": "Italiano"}

// LanguageName is how a language calls itself.
func LanguageName(lang string) string { return languageNames[lang] }

func pressed(on bool) string {
	if on {
		return "true"
	}
	return "false"
}

func themeIcon(theme string) string {
	switch theme {
	case "light":
		return "sun"
	case "dark":
		return "moon"
	}
	return "auto"
}
