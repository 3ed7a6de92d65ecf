// Package web is the console: server-rendered pages for people, and web/api the
// same verbs for programs. It says what it needs of the appliance in [Appliance]
// and never imports it. Pages work without script; the WebSocket only freshens
// them, with fragments rendered by the same components.
package web
