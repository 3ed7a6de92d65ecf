// Package web is the console: server-rendered pages for people, and web/api the
// same verbs for programs. It says what it needs of the appliance in [Appliance]
// and [Identity] and never imports it.
//
// # How a page comes about
//
//	ServeHTTP   headers, limits, cross-origin protection, who asks, may they
//	page.build  reads records and the report, fills a view model
//	package view prints it, in the reader's language and time zone
//	/live       builds the same page again when something changed and sends the
//	            parts that differ
//
// Pages work without script: links lead to pages, forms post and are redirected.
// The script and the WebSocket only freshen them; package asset says why there is
// no library.
//
// # Who may do what
//
// One table, access.go, names every route and who may use it. A route that is not
// in the table is refused, and a test holds that none is missing.
package web
