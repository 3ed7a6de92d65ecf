// Package view is what the pages of the console look like: templ components and
// the models they print. A model holds ready-to-print words, so that a template
// needs no more than if and for; who knows the records fills the models (package
// web). The same component renders a part of a page and the fragment that
// freshens it over the WebSocket.
//
// Every word that a person reads comes from the catalogs words.en.toml and
// words.it.toml. Formats of numbers, bytes, times and durations are those of
// [Words].
package view
