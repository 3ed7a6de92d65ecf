package web

import "riparo/store"

// Table is every route and who may use it, for the tests that crawl them.
func Table() map[string]access { return table }

// May reports whether a role may use a route.
func May(role store.Role, pattern string) bool { return may(role, table[pattern]) }

// Open reports whether anybody may use a route.
func Open(pattern string) bool { return table[pattern] == anyone || table[pattern] == scraper }

// Local is where a browser is sent that asks to be sent somewhere.
func Local(next string) string { return local(next) }

// ActionOf is how a route is called in the audit log.
func ActionOf(pattern string) string { return actionOf(pattern) }

// Recorded reports whether a route is written to the audit log.
func Recorded(pattern string) bool { return recorded(pattern) }

// WizardSteps are the names of the steps of the setup.
func WizardSteps() (names []string) {
	for _, s := range wizardSteps() {
		names = append(names, s.name)
	}
	return names
}
