// Package api is the HTTP API: what it asks of the daemon ([Appliance]), the
// handlers with their OpenAPI description, and the client that the command line
// uses.
package api
