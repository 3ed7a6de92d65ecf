package web

import "strings"

// agentOf makes "Firefox · Windows" of what a browser says of itself. It is for
// people who look at their sessions; what is not known is cut short.
func agentOf(text string) string {
	name := func(pairs ...string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if strings.Contains(text, pairs[i]) {
				return pairs[i+1]
			}
		}
		return ""
	}
	browser := name("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "HeadlessChrome/", "Chromium", "Chrome/", "Chrome", "Safari/", "Safari", "curl/", "curl", "Lynx/", "Lynx")
	system := name("Windows", "Windows", "Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Mac OS X", "macOS", "Linux", "Linux")
	switch {
	case browser != "" && system != "":
		return browser + " · " + system
	case browser != "":
		return browser
	case len(text) > 40:
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}
